#include "wire/zap.hpp"

#include <zmq.h>

#include <array>
#include <vector>

namespace troupe::wire {

Zap::Zap(zmq::context_t& context, const AllowList& allowed)
    : socket_(context, zmq::socket_type::rep), allowed_(allowed) {
  socket_.set(zmq::sockopt::linger, 0);
  socket_.bind("inproc://zeromq.zap.01");
}

void Zap::serve(int most) {
  while (most-- > 0 && serve_one()) {
  }
}

bool Zap::serve_one() {
  std::vector<std::string> frames;
  zmq::message_t frame;
  do {
    if (!socket_.recv(frame, zmq::recv_flags::dontwait)) return false;
    if (frames.size() < 16) frames.push_back(frame.to_string());
  } while (frame.more());
  // version, request id, domain, address, identity, mechanism, credentials
  frames.resize(7);
  const bool curve = frames[0] == "1.0" && frames[5] == "CURVE" && frames[6].size() == 32;
  std::array<char, 41> key{};
  if (curve) {
    std::array<uint8_t, 32> raw{};
    for (size_t i = 0; i < raw.size(); ++i) raw[i] = static_cast<uint8_t>(frames[6][i]);
    zmq_z85_encode(key.data(), raw.data(), raw.size());
  }
  if (curve && allowed_.allows(key.data())) {
    answer(frames[0], frames[1], "200", "", key.data());
  } else {
    ++refused_;
    answer(frames[0], frames[1], "400", "", "");
  }
  return true;
}

void Zap::answer(const std::string& version, const std::string& request, const char* code,
                 const char* text, const std::string& user) {
  const std::string parts[] = {version, request, code, text, user, ""};
  for (size_t i = 0; i < std::size(parts); ++i) {
    const bool last = i + 1 == std::size(parts);
    socket_.send(zmq::buffer(parts[i]), last ? zmq::send_flags::none : zmq::send_flags::sndmore);
  }
}

}  // namespace troupe::wire
