#include "cli/interrupt.hpp"

#include <poll.h>
#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <vector>

namespace troupe::cli {

Interrupt::Interrupt() {
  sigset_t wanted;
  sigemptyset(&wanted);
  sigaddset(&wanted, SIGINT);
  sigaddset(&wanted, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &wanted, nullptr);
  fd_ = signalfd(-1, &wanted, SFD_NONBLOCK | SFD_CLOEXEC);
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe is an error of write(), not a death
}

Interrupt::~Interrupt() {
  if (fd_ >= 0) close(fd_);
}

int Interrupt::take() {
  signalfd_siginfo info{};
  return read(fd_, &info, sizeof info) == static_cast<ssize_t>(sizeof info)
             ? static_cast<int>(info.ssi_signo)
             : 0;
}

int Interrupt::wait(int other, int timeout_ms) {
  return wait(std::span<const int>(&other, 1), timeout_ms);
}

int Interrupt::wait(std::span<const int> others, int timeout_ms) {
  std::vector<pollfd> fds = {{fd_, POLLIN, 0}};
  for (const int other : others) fds.push_back({other, POLLIN, 0});
  poll(fds.data(), fds.size(), timeout_ms);
  return (fds.front().revents & POLLIN) != 0 ? take() : 0;
}

}  // namespace troupe::cli
