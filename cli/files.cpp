#include "cli/files.hpp"

#include "cli/source.hpp"

namespace troupe::cli {
namespace {

// No prompt and no picture that an engine takes is larger: what is, /dev/zero say, may have no end.
constexpr size_t kMost = size_t{256} << 20;

}  // namespace

std::optional<std::string> read_file(const std::string& path, Interrupt& interrupt, Stop& stop) {
  Source source(path);
  while (!source.ended()) {
    if (interrupt.wait(source.fd(), -1) != 0) {
      stop = {kInterrupted, "interrupted while reading " + source.name()};
      return std::nullopt;
    }
    source.fill();
    if (source.size() > kMost) {
      stop = {kUsage, source.name() + ": larger than 256 MiB"};
      return std::nullopt;
    }
  }
  if (source.problem().empty()) return source.take_all();
  stop = {kUsage, source.problem()};
  return std::nullopt;
}

}  // namespace troupe::cli
