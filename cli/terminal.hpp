// What a person sees on stderr: messages, progress bars, colour. Data goes to stdout and never passes
// through here. Respects NO_COLOR and pipes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "cli/exit_codes.hpp"

namespace troupe::cli {

void say(std::string_view message);                // a line on stderr
[[nodiscard]] int complain(int exit_code, std::string_view message);  // "troupe: message"; gives exit_code back
[[nodiscard]] int complain(const Stop& stop);
[[nodiscard]] bool stderr_is_terminal();
[[nodiscard]] bool stdout_is_terminal();
[[nodiscard]] bool colour_wanted();
[[nodiscard]] std::string bold(std::string_view text);
[[nodiscard]] std::string dim(std::string_view text);

// A bar that redraws its line; nothing at all where stderr is no terminal.
class ProgressBar {
 public:
  explicit ProgressBar(bool wanted = true);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  void show(std::string_view what, double fraction, std::string_view detail = {});
  void clear();

 private:
  bool active_;
  bool shown_ = false;
  int64_t last_ns_ = 0;
};

}  // namespace troupe::cli
