#include "cli/terminal.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

namespace troupe::cli {
namespace {

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void write_stderr(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

std::string styled(const char* code, std::string_view text) {
  if (!colour_wanted()) return std::string(text);
  return std::string("\x1b[") + code + "m" + std::string(text) + "\x1b[0m";
}

constexpr int64_t kRedraw_ns = 50'000'000;
constexpr int kBarCells = 24;

}  // namespace

bool stderr_is_terminal() { return isatty(STDERR_FILENO) == 1; }
bool stdout_is_terminal() { return isatty(STDOUT_FILENO) == 1; }

bool colour_wanted() {
  const char* no_color = std::getenv("NO_COLOR");
  return stderr_is_terminal() && (no_color == nullptr || *no_color == '\0');
}

std::string bold(std::string_view text) { return styled("1", text); }
std::string dim(std::string_view text) { return styled("2", text); }

void say(std::string_view message) { write_stderr(std::string(message) + "\n"); }

int complain(int exit_code, std::string_view message) {
  say("troupe: " + std::string(message));
  return exit_code;
}

int complain(const Stop& stop) { return complain(stop.exit_code, stop.message); }

ProgressBar::ProgressBar(bool wanted) : active_(wanted && stderr_is_terminal()) {}
ProgressBar::~ProgressBar() { clear(); }

void ProgressBar::show(std::string_view what, double fraction, std::string_view detail) {
  const int64_t now = now_ns();
  if (!active_ || (shown_ && fraction < 1.0 && now - last_ns_ < kRedraw_ns)) return;
  last_ns_ = now;
  shown_ = true;
  const double clamped = std::clamp(fraction, 0.0, 1.0);
  const int full = static_cast<int>(clamped * kBarCells);
  std::string line = "\r\x1b[K" + std::string(what) + " [";
  line.append(static_cast<size_t>(full), '#').append(static_cast<size_t>(kBarCells - full), '.');
  line += "] " + std::to_string(static_cast<int>(clamped * 100.0)) + "% " + std::string(detail);
  write_stderr(line);
}

void ProgressBar::clear() {
  if (shown_) write_stderr("\r\x1b[K");
  shown_ = false;
}

}  // namespace troupe::cli
