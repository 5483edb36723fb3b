// The exit codes of the command, as `troupe --help` documents them.
#pragma once

namespace troupe::cli {

enum ExitCode : int {
  kOk = 0,
  kRequestFailed = 1,  // at least one request failed, or doctor found a problem
  kUsage = 2,          // unknown flag, bad value, unreadable input file
  kNoEngine = 3,       // the model could not be opened
  kInterrupted = 130,  // Ctrl-C
};

}  // namespace troupe::cli
