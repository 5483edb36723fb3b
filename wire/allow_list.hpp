// The keys of the clients that may connect: a file with one Z85 key per line, read again whenever
// it changes. Blank lines and what follows a '#' are comments.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>

#include "base/status.hpp"

namespace troupe::wire {

class AllowList {
 public:
  // An empty path allows every key.
  static Result<AllowList> open(std::string path);

  [[nodiscard]] bool allows(const std::string& key) const {
    return path_.empty() || keys_.contains(key);
  }
  // True: the file had changed and is in force. A file that cannot be read, or is wrong, changes
  // nothing and is told in `problem`, once per change.
  bool reload(Status& problem);

 private:
  struct Stamp {
    int64_t seconds = 0, nanoseconds = 0, size = 0;
    uint64_t inode = 0;
    bool operator==(const Stamp&) const = default;
  };
  static Result<Stamp> stamp_of(const std::string& path);
  static Result<std::unordered_set<std::string>> read(const std::string& path);

  std::string path_;
  std::unordered_set<std::string> keys_;
  Stamp stamp_;
};

}  // namespace troupe::wire
