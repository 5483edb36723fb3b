// Where data goes, stdout or a file: buffered, and the first write that fails is remembered with
// its cause, so that no exit code calls lost data a success.
#pragma once

#include <string>
#include <string_view>

namespace troupe::cli {

class Sink {
 public:
  Sink() = default;  // nowhere: open() comes first
  Sink(int fd, std::string name);  // of whoever opened it
  ~Sink();
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;

  // Cuts a file that is there. False: it cannot be written, as problem() tells.
  [[nodiscard]] bool open(const std::string& path);
  void put(std::string_view text);
  [[gnu::format(printf, 2, 3)]] void print(const char* format, ...);
  // Brings all that was put to its place. False, now and ever after: some of it is lost.
  bool flush();
  // Flushes, and lets a file go. False: as flush(); some file systems tell it only here.
  bool close();
  [[nodiscard]] bool failed() const { return cause_ != 0; }
  [[nodiscard]] std::string problem() const;  // "answers.jsonl: No space left on device"

 private:
  void write_out();

  int fd_ = -1;
  bool ours_ = false;
  std::string name_, pending_;
  int cause_ = 0;  // the errno of the first failure
};

// Every verb's data. stdio's stdout is not used beside it.
Sink& out();

// The end of every verb: flushes stdout; data lost makes a failure of what went well otherwise.
[[nodiscard]] int leave(int exit_code);

}  // namespace troupe::cli
