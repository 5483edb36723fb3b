// Where data comes from, a file or stdin ("-"): read as it comes, and never waited for without the
// ear for signals that waiting needs.
#pragma once

#include <optional>
#include <string>

#include "cli/interrupt.hpp"

namespace troupe::cli {

class Source {
 public:
  explicit Source(std::string path);
  ~Source();
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  // What to wait for: readable when there may be more; -1 when there is none.
  [[nodiscard]] int fd() const { return ended_ ? -1 : fd_; }
  // Takes what is there without waiting. False: nothing now, or never again.
  bool fill();
  // A line that is there as a whole, without its end; at the end of all, the last one.
  [[nodiscard]] std::optional<std::string> next_line();
  [[nodiscard]] std::string take_all();  // that is here and was not taken as a line
  [[nodiscard]] bool ended() const { return ended_; }  // what is left is here
  [[nodiscard]] size_t size() const { return pending_.size() - taken_; }  // is here, and not taken
  [[nodiscard]] bool empty() const { return size() == 0; }
  // "name: why" when it cannot be opened or read on; it has then ended.
  [[nodiscard]] const std::string& problem() const { return problem_; }
  // Are both one and the same file on a disk? Writing one would then destroy the other.
  [[nodiscard]] bool is_file(const std::string& output) const;
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  void fail(int cause);

  std::string name_;
  int fd_ = -1;
  bool ours_ = false, ended_ = false;
  std::string pending_;
  size_t taken_ = 0, searched_ = 0;  // of pending_, by next_line
  std::string problem_;
};

}  // namespace troupe::cli
