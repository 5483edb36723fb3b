#include "cli/files.hpp"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>

namespace troupe::cli {

std::optional<std::string> read_file(const std::string& path, std::string& problem) {
  if (path == "-") {
    return std::string(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>());
  }
  std::ifstream in(path, std::ios::binary);
  std::string bytes;
  if (in) bytes.assign(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  if (!in.is_open() || in.bad()) {
    problem = path + ": " + std::strerror(errno);
    return std::nullopt;
  }
  return bytes;
}

}  // namespace troupe::cli
