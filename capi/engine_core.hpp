// An engine behind its handle: loading, open, closing, closed, whichever port it stands on.
//
// The port is opened on a thread of ours, with every signal blocked, so that no engine thread takes
// the host's signals and an open that has a queue returns at once. Engines still open when the
// process exits are closed by an exit handler (troupe.h, rule 8).
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/port.hpp"
#include "capi/plugin.hpp"
#include "capi/queue.hpp"

namespace troupe::capi {

struct OpenRequest {
  std::string endpoint;
  EngineOptions options;
  std::string library_dir;  // empty: beside this library
  std::shared_ptr<Channel> announced;  // null: the opener waits
};

class EngineCore : public std::enable_shared_from_this<EngineCore> {
 public:
  ~EngineCore();
  // With `announced` set it returns at once, else when the engine is open or has failed.
  static Result<std::shared_ptr<EngineCore>> open(OpenRequest request);

  // The port, while the engine is open: overloaded while it loads, `closed` after.
  Result<std::shared_ptr<EnginePort>> port() const;
  // The port even while it closes; null when there is none.
  std::shared_ptr<EnginePort> port_if_any() const;
  const EngineInfo& info() const { return info_; }  // constant once port() has answered
  const EnginePlugin* plugin() const { return plugin_; }
  const std::string& endpoint() const { return endpoint_; }

  Status close(int64_t drain_ns);

 private:
  enum class State { loading, open, failed, closed };

  void start(OpenRequest request);
  void load(const OpenRequest& request);
  Status open_port(const OpenRequest& request);
  void announce(const std::shared_ptr<Channel>& channel, const Status& status);
  bool progressed(const std::shared_ptr<Channel>& channel, std::string_view phase, double fraction);

  mutable std::mutex mutex_;  // guards phase_, failure_, loaded_, port_ while it is being set
  std::condition_variable loaded_changed_;
  std::atomic<State> state_{State::loading};
  std::atomic<bool> give_up_{false};
  bool loaded_ = false;
  std::string endpoint_, phase_;
  Status failure_;
  EngineInfo info_;
  const EnginePlugin* plugin_ = nullptr;
  std::shared_ptr<EnginePort> port_;
  std::mutex joining_;
  std::thread loader_;
};

// Closes every engine that is still open, as the exit handler does.
void close_all_engines() noexcept;

}  // namespace troupe::capi

struct troupe_engine {
  std::shared_ptr<troupe::capi::EngineCore> core;
};
