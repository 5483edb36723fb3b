#include "wire/test_proxy.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace troupe::wire {
namespace {

constexpr size_t kBuffer = 64 * 1024;

sockaddr_in local(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

}  // namespace

struct Proxy::Pair {
  std::array<int, 2> fd{-1, -1};  // the client's side, the server's side
  std::array<std::string, 2> waiting;  // read from that side, not yet written to the other one
  bool over = false;
  ~Pair() {
    const linger reset{1, 0};
    for (const int one : fd) {
      if (one < 0) continue;
      ::setsockopt(one, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
      ::close(one);
    }
  }
};

Proxy::Proxy(uint16_t target) : target_(target) {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  sockaddr_in address = local(0);
  socklen_t size = sizeof address;
  ::bind(listener_, reinterpret_cast<const sockaddr*>(&address), size);
  ::listen(listener_, 128);
  ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { loop(); });
}

Proxy::~Proxy() {
  over_ = true;
  thread_.join();
  ::close(listener_);
}

void Proxy::accept_one() {
  const int client = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (client < 0) return;
  auto pair = std::make_unique<Pair>();
  pair->fd[0] = client;
  pair->fd[1] = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = local(target_);
  if (::connect(pair->fd[1], reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return;
  ::fcntl(pair->fd[1], F_SETFL, O_NONBLOCK);
  const int one = 1;
  for (const int fd : pair->fd) ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  pairs_.push_back(std::move(pair));
}

void Proxy::forward(Pair& pair, int side, int64_t budget) {
  const auto i = static_cast<size_t>(side);
  std::string& waiting = pair.waiting[i];
  if (waiting.size() < kBuffer) {
    std::array<char, kBuffer> bytes{};
    const ssize_t got = ::read(pair.fd[i], bytes.data(), bytes.size());
    if (got > 0) waiting.append(bytes.data(), static_cast<size_t>(got));
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) pair.over = true;
  }
  const size_t most = std::min(waiting.size(), static_cast<size_t>(budget));
  if (most == 0) return;
  const ssize_t put = ::send(pair.fd[1 - i], waiting.data(), most, MSG_NOSIGNAL);
  if (put > 0) waiting.erase(0, static_cast<size_t>(put));
  if (put < 0 && errno != EAGAIN && errno != EINTR) pair.over = true;
}

void Proxy::loop() {
  uint64_t kills = 0;
  while (!over_) {
    std::vector<pollfd> fds{{listener_, POLLIN, 0}};
    const bool stalled = stalled_;
    const int rate = rate_;
    if (!stalled) {
      for (const auto& pair : pairs_) {
        for (size_t i = 0; i < 2; ++i) {
          const bool reads = pair->waiting[i].size() < kBuffer && rate == 0;
          const bool writes = !pair->waiting[1 - i].empty() && rate == 0;
          fds.push_back(
              {pair->fd[i], static_cast<short>((reads ? POLLIN : 0) | (writes ? POLLOUT : 0)), 0});
        }
      }
    }
    ::poll(fds.data(), fds.size(), 1);
    if (const uint64_t now = kills_; now != kills) {
      kills = now;
      pairs_.clear();
    }
    if (stalled) continue;
    if ((fds[0].revents & POLLIN) != 0) accept_one();
    const int64_t budget = rate == 0 ? int64_t{1} << 40 : rate;
    for (const auto& pair : pairs_) {
      forward(*pair, 0, budget);
      forward(*pair, 1, budget);
    }
    std::erase_if(pairs_, [](const auto& pair) {
      return pair->over && pair->waiting[0].empty() && pair->waiting[1].empty();
    });
  }
  pairs_.clear();
}

}  // namespace troupe::wire
