#include "cli/sink.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <utility>

#include "cli/exit_codes.hpp"
#include "cli/terminal.hpp"

namespace troupe::cli {
namespace {

constexpr size_t kBuffer = size_t{64} << 10;

}  // namespace

Sink::Sink(int fd, std::string name) : fd_(fd), name_(std::move(name)) {}

Sink::~Sink() {
  close();
}

bool Sink::open(const std::string& path) {
  name_ = path;
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  ours_ = fd_ >= 0;
  if (!ours_) cause_ = errno;
  return ours_;
}

void Sink::put(std::string_view text) {
  if (failed()) return;
  pending_ += text;
  if (pending_.size() >= kBuffer) write_out();
}

void Sink::print(const char* format, ...) {
  va_list values, again;
  va_start(values, format);
  va_copy(again, values);
  const int size = std::vsnprintf(nullptr, 0, format, values);
  va_end(values);
  std::string text(static_cast<size_t>(size) + 1, '\0');
  std::vsnprintf(text.data(), text.size(), format, again);
  va_end(again);
  text.pop_back();
  put(text);
}

void Sink::write_out() {
  for (std::string_view rest = pending_; !rest.empty() && !failed();) {
    const ssize_t written = ::write(fd_, rest.data(), rest.size());
    if (written >= 0) {
      rest.remove_prefix(static_cast<size_t>(written));
    } else if (errno == EAGAIN) {  // whoever shares the descriptor set it so
      pollfd room{fd_, POLLOUT, 0};
      poll(&room, 1, -1);
    } else if (errno != EINTR) {
      cause_ = errno;
    }
  }
  pending_.clear();
}

bool Sink::flush() {
  write_out();
  return !failed();
}

bool Sink::close() {
  write_out();
  if (ours_ && ::close(std::exchange(fd_, -1)) != 0 && !failed()) cause_ = errno;
  ours_ = false;
  return !failed();
}

std::string Sink::problem() const {
  return name_ + ": " + std::strerror(cause_);
}

Sink& out() {
  static Sink sink(STDOUT_FILENO, "stdout");
  return sink;
}

int leave(int exit_code) {
  if (out().flush()) return exit_code;
  const int failed = complain(kRequestFailed, out().problem());
  return exit_code == kOk ? failed : exit_code;
}

}  // namespace troupe::cli
