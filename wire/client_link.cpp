#include "wire/client_link.hpp"

#include <zmq.h>

#include <cstring>
#include <utility>

#include "wire/endpoint.hpp"

namespace troupe::wire {
namespace {

constexpr int kConnect_ms = 5000;
constexpr int kBeat_ms = 5000;
constexpr int64_t kMessageBytes = int64_t{256} << 20;  // what a server may send in one frame
constexpr int kEvents = ZMQ_EVENT_CONNECTED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CLOSED |
                        ZMQ_EVENT_CONNECT_RETRIED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
                        ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                        ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;

}  // namespace

ClientLink::ClientLink(std::string endpoint, RemoteOptions options)
    : endpoint_(std::move(endpoint)), options_(std::move(options)), context_(1) {}

Status ClientLink::set_keys(zmq::socket_t& socket) const {
  if (options_.server_key.empty()) return {};
  std::string public_key = options_.client_public_key, secret_key = options_.client_secret_key;
  if (secret_key.empty()) {
    TR_ASSIGN(auto pair, make_keys());
    std::tie(public_key, secret_key) = std::move(pair);
  }
  socket.set(zmq::sockopt::curve_serverkey, options_.server_key);
  socket.set(zmq::sockopt::curve_publickey, public_key);
  socket.set(zmq::sockopt::curve_secretkey, secret_key);
  return {};
}

Status ClientLink::open() {
  close(0);
  met_somebody_ = false;
  try {
    zmq::socket_t socket(context_, zmq::socket_type::dealer);
    TR_TRY(set_keys(socket));
    socket.set(zmq::sockopt::linger, 0);
    socket.set(zmq::sockopt::reconnect_ivl, -1);  // the core decides when to try again
    socket.set(zmq::sockopt::connect_timeout, kConnect_ms);
    socket.set(zmq::sockopt::handshake_ivl, kConnect_ms);
    socket.set(zmq::sockopt::sndhwm,
               0);  // what may be on its way is bounded by the server's limits
    socket.set(zmq::sockopt::rcvhwm, 0);  // and by our credit
    socket.set(zmq::sockopt::maxmsgsize, kMessageBytes);
    socket.set(zmq::sockopt::heartbeat_ivl, kBeat_ms);
    socket.set(zmq::sockopt::heartbeat_timeout, 3 * kBeat_ms);
    socket.set(zmq::sockopt::ipv6, endpoint_.find('[') != std::string::npos);
    const std::string monitor = "inproc://link-" + std::to_string(attempts_++);
    if (zmq_socket_monitor(socket.handle(), monitor.c_str(), kEvents) != 0) throw zmq::error_t();
    zmq::socket_t events(context_, zmq::socket_type::pair);
    events.set(zmq::sockopt::linger, 0);
    events.connect(monitor);
    socket.connect(endpoint_);
    socket_ = std::move(socket);
    monitor_ = std::move(events);
  } catch (const zmq::error_t& e) {
    return invalid("endpoint " + endpoint_ + ": " + e.what());
  }
  return {};
}

void ClientLink::close(int linger_ms) {
  if (!socket_) return;
  zmq_setsockopt(socket_->handle(), ZMQ_LINGER, &linger_ms, sizeof linger_ms);
  zmq_socket_monitor(socket_->handle(), nullptr, 0);
  socket_.reset();
  monitor_.reset();
}

void ClientLink::send(Kind kind, std::string_view body, std::span<const SharedBytes> blobs) {
  if (socket_) (void)send_message(*socket_, {}, kind, body, blobs);
}

Id128 ClientLink::random_id() {
  return draw_id();
}

void ClientLink::wait(const WakeFd& wake, int timeout_ms) {
  zmq::pollitem_t items[3] = {{nullptr, wake.fd(), ZMQ_POLLIN, 0}, {}, {}};
  if (socket_) {
    items[1] = {socket_->handle(), 0, ZMQ_POLLIN, 0};
    items[2] = {monitor_->handle(), 0, ZMQ_POLLIN, 0};
  }
  zmq_poll(items, socket_ ? 3 : 1, timeout_ms);
  if ((items[0].revents & ZMQ_POLLIN) != 0) wake.clear();
}

ClientLink::News ClientLink::take_news() {
  if (!monitor_) return News::none;
  zmq::message_t event;
  if (zmq_msg_recv(event.handle(), monitor_->handle(), ZMQ_DONTWAIT) < 0) return News::none;
  uint16_t number = 0;
  uint32_t value = 0;
  if (event.size() >= 6) {
    std::memcpy(&number, event.data(), sizeof number);
    std::memcpy(&value, static_cast<const char*>(event.data()) + 2, sizeof value);
  }
  while (event.more() && zmq_msg_recv(event.handle(), monitor_->handle(), ZMQ_DONTWAIT) >= 0) {
  }
  switch (number) {
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
      return News::up;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
      return News::unauthorised;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
      return value == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH ? News::refused_mechanism
                                                                 : News::lost;
    case ZMQ_EVENT_CLOSED:
      return News::unreachable;
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
    case ZMQ_EVENT_DISCONNECTED:
      return News::lost;
    case ZMQ_EVENT_CONNECTED:
      met_somebody_ = true;
      return take_news();
    default:
      return News::none;
  }
}

bool ClientLink::receive(Received& to) {
  while (socket_) {
    switch (to.receive(*socket_, false)) {
      case Received::Outcome::none:
        return false;
      case Received::Outcome::message:
        return true;
      case Received::Outcome::nonsense:
        break;
    }
  }
  return false;
}

}  // namespace troupe::wire
