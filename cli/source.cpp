#include "cli/source.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace troupe::cli {
namespace {

constexpr size_t kPiece = size_t{64} << 10;
constexpr size_t kTidy = size_t{1} << 20;  // lines taken are dropped when so many bytes of them are

}  // namespace

Source::Source(std::string path) : name_(std::move(path)) {
  if (name_ == "-") {
    name_ = "stdin";
    fd_ = STDIN_FILENO;
  } else {
    // A named pipe must not hold us up until somebody writes to it: the wait is the caller's.
    fd_ = ::open(name_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    ours_ = fd_ >= 0;
  }
  struct stat about {};
  if (fd_ < 0 || fstat(fd_, &about) != 0) {
    fail(errno);
  } else if (S_ISDIR(about.st_mode)) {
    fail(EISDIR);
  }
}

Source::~Source() {
  if (ours_) close(fd_);
}

void Source::fail(int cause) {
  problem_ = name_ + ": " + std::strerror(cause);
  ended_ = true;
}

bool Source::fill() {
  pollfd there{fd(), POLLIN, 0};
  if (ended_ || poll(&there, 1, 0) <= 0) return false;
  std::array<char, kPiece> piece;
  const ssize_t n = read(fd_, piece.data(), piece.size());
  if (n < 0 && errno != EINTR && errno != EAGAIN) fail(errno);
  if (n == 0) ended_ = true;
  if (n > 0) pending_.append(piece.data(), static_cast<size_t>(n));
  return n > 0;
}

std::optional<std::string> Source::next_line() {
  const size_t end = pending_.find('\n', searched_);
  searched_ = std::min(end, pending_.size());
  const bool last = end == std::string::npos && ended_ && taken_ < pending_.size();
  if (end == std::string::npos && !last) return std::nullopt;
  std::string line = pending_.substr(taken_, searched_ - taken_);
  taken_ = searched_ = searched_ + (last ? 0 : 1);
  if (taken_ == pending_.size() || taken_ >= kTidy) {
    pending_.erase(0, taken_);
    taken_ = searched_ = 0;
  }
  return line;
}

std::string Source::take_all() {
  std::string all = std::exchange(pending_, {}).substr(taken_);
  taken_ = searched_ = 0;
  return all;
}

bool Source::is_file(const std::string& output) const {
  struct stat in {
  }, out{};
  const bool known = fstat(fd_, &in) == 0 &&
                     (output == "-" ? fstat(STDOUT_FILENO, &out) : stat(output.c_str(), &out)) == 0;
  return known && S_ISREG(in.st_mode) && in.st_dev == out.st_dev && in.st_ino == out.st_ino;
}

}  // namespace troupe::cli
