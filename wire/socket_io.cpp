#include "wire/socket_io.hpp"

#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>
#include <zmq.h>

#include <cerrno>
#include <cstdint>

namespace troupe::wire {
namespace {

constexpr size_t kBlobsMax = 4096;

// A frame that keeps `bytes` alive until libzmq has sent it.
bool send_shared(void* socket, const SharedBytes& bytes, int flags) {
  if (bytes.size == 0) return zmq_send(socket, "", 0, flags) >= 0;
  auto* const keeper = new std::shared_ptr<const void>(bytes.owner);
  zmq_msg_t frame;
  const auto drop = [](void*, void* hint) {
    delete static_cast<std::shared_ptr<const void>*>(hint);
  };
  if (zmq_msg_init_data(&frame, const_cast<std::byte*>(bytes.data), bytes.size, drop, keeper) !=
      0) {
    delete keeper;
    return false;
  }
  if (zmq_msg_send(&frame, socket, flags) >= 0) return true;
  zmq_msg_close(&frame);
  return false;
}

}  // namespace

bool Received::next(zmq::socket_t& socket, zmq::message_t& frame, bool first) {
  if (!first && !more_) return false;
  if (zmq_msg_recv(frame.handle(), socket.handle(), ZMQ_DONTWAIT) < 0) {
    more_ = false;
    return false;
  }
  more_ = frame.more();
  return true;
}

void Received::skip_rest(zmq::socket_t& socket) {
  while (next(socket, rest_, false)) {
  }
}

Received::Outcome Received::receive(zmq::socket_t& socket, bool routed) {
  blobs_.clear();
  if (routed && !next(socket, peer_, true)) return Outcome::none;
  if (!next(socket, head_, !routed)) return routed ? Outcome::nonsense : Outcome::none;
  if (!is_head(head()) || !next(socket, body_, false)) {
    skip_rest(socket);
    return Outcome::nonsense;
  }
  while (more_) {
    if (blobs_.size() == kBlobsMax) {
      skip_rest(socket);
      return Outcome::nonsense;
    }
    auto frame = std::make_shared<zmq::message_t>();
    if (!next(socket, *frame, false)) return Outcome::nonsense;
    const auto* const data = static_cast<const std::byte*>(frame->data());
    const size_t size = frame->size();
    blobs_.push_back({std::move(frame), data, size});
  }
  return Outcome::message;
}

std::string_view Received::user_id() {
  const char* const user = zmq_msg_gets(body_.handle(), "User-Id");
  return user == nullptr ? std::string_view() : std::string_view(user);
}

// libzmq keeps what it knows of a connection in one place, to which all its messages refer.
const void* Received::connection() {
  return zmq_msg_gets(head_.handle(), "Socket-Type");
}

std::shared_ptr<const void> Received::link() {
  auto message = std::make_shared<zmq::message_t>();
  message->copy(head_);
  return message;
}

SendOutcome send_message(zmq::socket_t& socket, std::string_view peer, Kind kind,
                         std::string_view body, std::span<const SharedBytes> blobs) {
  void* const to = socket.handle();
  const auto failed = [] { return zmq_errno() == EAGAIN ? SendOutcome::full : SendOutcome::gone; };
  if (!peer.empty() && zmq_send(to, peer.data(), peer.size(), ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0)
    return failed();
  const auto head = head_of(kind);
  if (zmq_send(to, head.data(), head.size(), ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0) return failed();
  if (zmq_send(to, body.data(), body.size(), ZMQ_DONTWAIT | (blobs.empty() ? 0 : ZMQ_SNDMORE)) < 0)
    return failed();
  for (size_t i = 0; i < blobs.size(); ++i) {
    if (!send_shared(to, blobs[i], ZMQ_DONTWAIT | (i + 1 < blobs.size() ? ZMQ_SNDMORE : 0)))
      return failed();
  }
  return SendOutcome::sent;
}

WakeFd::WakeFd() : fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

WakeFd::~WakeFd() {
  if (fd_ >= 0) ::close(fd_);
}

void WakeFd::wake() const {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(fd_, &one, sizeof one);
}

void WakeFd::clear() const {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t taken = ::read(fd_, &count, sizeof count);
}

Id128 draw_id() {
  Id128 id{};
  size_t have = 0;
  while (have < id.size()) {
    const ssize_t got = ::getrandom(id.data() + have, id.size() - have, 0);
    if (got > 0) have += static_cast<size_t>(got);
  }
  return id;
}

}  // namespace troupe::wire
