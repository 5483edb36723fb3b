// The exit codes of the command, as `troupe --help` documents them.
#pragma once

#include <string>

namespace troupe::cli {

enum ExitCode : int {
  kOk = 0,
  kRequestFailed = 1,  // at least one request failed, output was lost, or doctor found a problem
  kUsage = 2,          // unknown flag, bad value, unreadable input file
  kNoEngine = 3,       // the model could not be opened
  kInterrupted = 130,  // Ctrl-C or SIGTERM
};

// Why a verb stops short, if it does: what it exits with and says.
struct Stop {
  ExitCode exit_code = kOk;
  std::string message;

  explicit operator bool() const { return exit_code != kOk; }
};

}  // namespace troupe::cli
