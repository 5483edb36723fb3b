// Of tests: a pretend /proc and /sys.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace troupe {

class FakeRoot {
 public:
  FakeRoot() {
    folder_ = std::filesystem::temp_directory_path() /
              ("troupe_root_" + std::to_string(getpid()) + "_" + std::to_string(counter_++));
    std::filesystem::create_directories(folder_);
  }
  ~FakeRoot() { std::filesystem::remove_all(folder_); }
  void write(const std::string& path, const std::string& text) const {
    const auto file = folder_ / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  [[nodiscard]] std::string path() const { return folder_.string(); }

 private:
  static inline int counter_ = 0;
  std::filesystem::path folder_;
};

}  // namespace troupe
