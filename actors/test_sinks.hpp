// Sinks for tests: they keep what they are given and hold it against INV-EVENT-1 and INV-EVENT-2.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "base/request.hpp"

namespace troupe::actors {

// Everything that came for one request.
struct Heard {
  int terminals = 0;
  int broken = 0;  // events after the terminal one, tokens out of order
  EventKind end = EventKind::ready;
  Status status;
  FinishReason finish = FinishReason::none;
  Usage usage;
  Timings timings;
  std::vector<float> data;
  std::map<int32_t, std::vector<int32_t>> tokens;  // by choice
  std::map<int32_t, std::string> text;
};

// One sink for any number of requests; may be waited on.
class Listener final : public EventSink {
 public:
  void push(Event&& event) override {
    const std::scoped_lock lock(mutex_);
    Heard& heard = heard_[event.id];
    if (heard.terminals > 0) ++heard.broken;
    auto& tokens = heard.tokens[event.index];
    if (!event.tokens.empty() && event.from != static_cast<int64_t>(tokens.size())) ++heard.broken;
    tokens.insert(tokens.end(), event.tokens.begin(), event.tokens.end());
    heard.text[event.index] += event.text;
    if (!is_terminal(event.kind)) return;
    ++heard.terminals;
    ++ended_;
    heard.end = event.kind;
    heard.status = event.status;
    heard.finish = event.finish;
    heard.usage = event.usage;
    heard.timings = event.timings;
    heard.data = event.data;
    ended_changed_.notify_all();
  }
  // False: not so many ended within a minute.
  bool wait_for(size_t ended) {
    std::unique_lock lock(mutex_);
    return ended_changed_.wait_for(lock, std::chrono::seconds(60), [&] { return ended_ >= ended; });
  }
  Heard of(RequestId id) {
    const std::scoped_lock lock(mutex_);
    return heard_[id];
  }
  std::map<RequestId, Heard> all() {
    const std::scoped_lock lock(mutex_);
    return heard_;
  }
  size_t ended() {
    const std::scoped_lock lock(mutex_);
    return ended_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable ended_changed_;
  std::map<RequestId, Heard> heard_;
  size_t ended_ = 0;
};

inline Request text_request(std::string text, int32_t max_tokens) {
  Request request;
  PromptPart part;
  part.text = std::move(text);
  request.prompt.push_back(std::move(part));
  request.sampling.max_tokens = max_tokens;
  return request;
}

}  // namespace troupe::actors
