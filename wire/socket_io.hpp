// Whole messages over a zmq socket, without exceptions on the way: what both shells share.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <vector>
#include <zmq.hpp>

#include "base/request.hpp"
#include "wire/protocol.hpp"

namespace troupe::wire {

// One message as it came. Frames are used again from message to message; blobs live on their own,
// as long as somebody holds their bytes: they are not copied.
class Received {
 public:
  enum class Outcome : uint8_t { none, message, nonsense };
  // `routed`: a routing id stands in front (ROUTER). Nonsense: frames are missing, or far too many.
  Outcome receive(zmq::socket_t& socket, bool routed);

  [[nodiscard]] std::string_view peer() const { return view(peer_); }
  [[nodiscard]] std::string_view head() const { return view(head_); }
  [[nodiscard]] std::string_view body() const { return view(body_); }
  // What ZAP said of the connection; empty without CURVE. The message must still be there.
  [[nodiscard]] std::string_view user_id();
  // Names the connection that the message came over, among those that live; no other one has the
  // same name as long as what link() gave is held. Null: it cannot be told.
  [[nodiscard]] const void* connection();
  [[nodiscard]] std::shared_ptr<const void> link();
  std::vector<SharedBytes> take_blobs() { return std::move(blobs_); }

 private:
  static std::string_view view(const zmq::message_t& frame) {
    return {static_cast<const char*>(frame.data()), frame.size()};
  }
  bool next(zmq::socket_t& socket, zmq::message_t& frame, bool first);
  void skip_rest(zmq::socket_t& socket);

  zmq::message_t peer_, head_, body_, rest_;
  bool more_ = false;
  std::vector<SharedBytes> blobs_;
};

enum class SendOutcome : uint8_t { sent, full, gone };
// `peer` empty: a DEALER's message. Blobs are handed over without a copy.
SendOutcome send_message(zmq::socket_t& socket, std::string_view peer, Kind kind,
                         std::string_view body, std::span<const SharedBytes> blobs);

// Wakes a poll from any thread.
class WakeFd {
 public:
  WakeFd();
  ~WakeFd();
  WakeFd(const WakeFd&) = delete;
  WakeFd& operator=(const WakeFd&) = delete;
  [[nodiscard]] int fd() const { return fd_; }
  void wake() const;
  void clear() const;

 private:
  int fd_;
};

// A fresh id that nobody can guess.
Id128 draw_id();

}  // namespace troupe::wire
