// Ctrl-C as something to poll for: SIGINT and SIGTERM are blocked in every thread and read from a
// descriptor, so that a verb decides what they mean (stop the answer, not the program).
#pragma once

#include <span>

namespace troupe::cli {

class Interrupt {
 public:
  Interrupt();   // before any other thread starts: they inherit the blocked mask
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  [[nodiscard]] int fd() const { return fd_; }
  // Takes one pending signal; its number, or 0.
  [[nodiscard]] int take();
  // Waits until `other` is readable or a signal came, at most timeout_ms (-1: for ever). The signal's
  // number, or 0.
  [[nodiscard]] int wait(int other, int timeout_ms);
  [[nodiscard]] int wait(std::span<const int> others, int timeout_ms);  // any of them; -1 is none

 private:
  int fd_ = -1;
};

}  // namespace troupe::cli
