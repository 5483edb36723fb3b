#include "bench/wire/served.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/clock.hpp"
#include "wire/control.hpp"
#include "wire/protocol.hpp"

namespace troupe::bench {
namespace {

// ZMTP 3.0 with the NULL mechanism, by hand: the greeting, READY, and messages of short frames.
std::string greeting() {
  std::string bytes("\xff\0\0\0\0\0\0\0\0\x7f\x03\x00NULL", 16);
  bytes.resize(64, '\0');
  return bytes;
}

std::string ready() {
  const std::string body = std::string("\x05READY\x0bSocket-Type", 18) + std::string(
                                                                             "\0\0\0\x06"
                                                                             "DEALER",
                                                                             10);
  return std::string("\x04") + static_cast<char>(body.size()) + body;
}

std::string message(wire::Kind kind, const std::string& body) {
  const auto head = wire::head_of(kind);
  std::string bytes("\x01\x04", 2);
  bytes.append(head.data(), head.size());
  bytes += '\0';
  bytes += static_cast<char>(body.size());
  return bytes + body;
}

void send_all(int fd, const std::string& bytes) {
  [[maybe_unused]] const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

}  // namespace

void allow_open_files(int connections) {
  const auto needed = static_cast<rlim_t>(connections) + 256;
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_max < needed) {
    std::fprintf(stderr,
                 "%d connections need %llu open files, and this shell allows %llu: raise the hard "
                 "limit (ulimit -Hn, as root, or LimitNOFILE=) and run it again\n",
                 connections, static_cast<unsigned long long>(needed),
                 static_cast<unsigned long long>(limit.rlim_max));
    std::exit(1);
  }
  limit.rlim_cur = std::max(limit.rlim_cur, needed);
  setrlimit(RLIMIT_NOFILE, &limit);
}

Served::Served(const std::string& command, const std::string& model,
               const std::vector<std::string>& flags) {
  int pipe_fds[2];
  if (::pipe(pipe_fds) != 0) std::abort();
  pid_ = ::fork();
  if (pid_ == 0) {
    ::dup2(pipe_fds[1], STDOUT_FILENO);
    ::close(pipe_fds[0]);
    ::close(pipe_fds[1]);
    std::vector<std::string> words{command, "serve", model, "--zmq", "tcp://127.0.0.1:*"};
    words.insert(words.end(), flags.begin(), flags.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    ::execv(command.c_str(), argv.data());
    std::perror(command.c_str());
    std::_Exit(127);
  }
  ::close(pipe_fds[1]);
  std::FILE* const out = ::fdopen(pipe_fds[0], "r");
  std::array<char, 256> line{}, where{};
  if (std::fgets(line.data(), static_cast<int>(line.size()), out) == nullptr ||
      std::sscanf(line.data(), "zmq %255s", where.data()) != 1) {
    std::fprintf(stderr, "%s serve %s did not start\n", command.c_str(), model.c_str());
    std::exit(1);
  }
  std::fclose(out);
  endpoint_ = where.data();
}

Served::~Served() {
  ::kill(pid_, SIGTERM);
  ::waitpid(pid_, nullptr, 0);
}

int Served::port() const {
  return std::atoi(endpoint_.c_str() + endpoint_.rfind(':') + 1);
}

IdleConnections::IdleConnections(int port, int count) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  for (int i = 0; i < count; ++i) {
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      std::perror("connection");
      std::exit(1);
    }
    send_all(fd, greeting() + ready());
    fds_.push_back(fd);
    greeted_.push_back(false);
    if (i % 100 == 99) serve(0.0);
  }
  for (int i = 0; i < 100 && welcomed_ < fds_.size(); ++i) serve(0.1);
  pinged_ns_ = steady_now_ns();
}

IdleConnections::~IdleConnections() {
  for (const int fd : fds_) {
    if (fd >= 0) ::close(fd);
  }
}

void IdleConnections::read(size_t i) {
  std::array<char, 4096> bytes{};
  const ssize_t got = ::recv(fds_[i], bytes.data(), bytes.size(), MSG_DONTWAIT);
  if (got == 0 || (got < 0 && errno != EAGAIN)) {
    ::close(fds_[i]);
    fds_[i] = -1;
    return;
  }
  const std::string_view text(bytes.data(), static_cast<size_t>(got < 0 ? 0 : got));
  // A message before the server's READY would break the handshake off.
  if (text.find("\x05READY") != std::string_view::npos) {
    wire::Hello hello;
    std::memcpy(hello.client.data(), &i, sizeof i);
    std::string body;
    wire::write_hello(body, hello);
    send_all(fds_[i], message(wire::Kind::hello, body));
  }
  const std::string_view welcome("TR\x01\x02", 4);
  if (!greeted_[i] && text.find(welcome) != std::string_view::npos) {
    greeted_[i] = true;
    ++welcomed_;
  }
  if (text.find("\x04PING") != std::string_view::npos)
    send_all(fds_[i], std::string("\x04\x05\x04PONG", 7));
}

size_t IdleConnections::serve(double seconds) {
  const int64_t until = steady_now_ns() + static_cast<int64_t>(seconds * 1e9);
  do {
    std::vector<pollfd> waiting;
    for (const int fd : fds_) waiting.push_back({fd, POLLIN, 0});
    ::poll(waiting.data(), waiting.size(), seconds > 0 ? 100 : 0);
    for (size_t i = 0; i < waiting.size(); ++i) {
      if (waiting[i].revents != 0) read(i);
    }
    if (pinged_ns_ != 0 && steady_now_ns() - pinged_ns_ > 20'000'000'000) {
      pinged_ns_ = steady_now_ns();
      std::string body;
      wire::write_ping(body, 1);
      for (const int fd : fds_) {
        if (fd >= 0) send_all(fd, message(wire::Kind::ping, body));
      }
    }
  } while (steady_now_ns() < until);
  size_t connected = 0;
  for (const int fd : fds_) connected += fd >= 0 ? 1 : 0;
  return connected;
}

}  // namespace troupe::bench
