// The ZAP handler (ZeroMQ RFC 27): which CURVE keys may connect. It lives on the server's I/O
// thread; libzmq asks it once per handshake, before any message of the peer is read.
#pragma once

#include <memory>
#include <string>
#include <zmq.hpp>

#include "wire/allow_list.hpp"

namespace troupe::wire {

class Zap {
 public:
  // Must exist before the server's socket binds; one per context.
  Zap(zmq::context_t& context, const AllowList& allowed);
  [[nodiscard]] zmq::socket_t& socket() { return socket_; }
  // Answers what waits, at most `most` questions.
  void serve(int most);
  [[nodiscard]] uint64_t refused() const { return refused_; }

 private:
  bool serve_one();
  void answer(const std::string& version, const std::string& request, const char* code,
              const char* text, const std::string& user);

  zmq::socket_t socket_;
  const AllowList& allowed_;
  uint64_t refused_ = 0;
};

}  // namespace troupe::wire
