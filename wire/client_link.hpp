// The connection under a client: a DEALER socket, made anew for every attempt, and the monitor that
// tells what becomes of it. Used by the client's I/O thread alone.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <zmq.hpp>

#include "base/port.hpp"
#include "wire/client_core.hpp"
#include "wire/socket_io.hpp"

namespace troupe::wire {

class ClientLink final : public Uplink {
 public:
  // What became of the attempt or the connection.
  enum class News : uint8_t { none, up, lost, unreachable, unauthorised, refused_mechanism };

  ClientLink(std::string endpoint, RemoteOptions options);
  ~ClientLink() override { close(0); }

  Status open();
  void close(int linger_ms);
  [[nodiscard]] bool is_open() const { return socket_.has_value(); }
  // Somebody took the last attempt's connection, whatever came of it.
  [[nodiscard]] bool met_somebody() const { return met_somebody_; }

  void send(Kind kind, std::string_view body, std::span<const SharedBytes> blobs) override;
  Id128 random_id() override;

  // Waits for messages, news or `wake`, at most timeout_ms.
  void wait(const WakeFd& wake, int timeout_ms);
  News take_news();
  bool receive(Received& to);

 private:
  Status set_keys(zmq::socket_t& socket) const;

  const std::string endpoint_;
  const RemoteOptions options_;
  zmq::context_t context_;
  std::optional<zmq::socket_t> socket_, monitor_;
  uint64_t attempts_ = 0;
  bool met_somebody_ = false;
};

}  // namespace troupe::wire
