#include "cli/files.hpp"

#include "cli/source.hpp"

namespace troupe::cli {

std::optional<std::string> read_file(const std::string& path, Interrupt& interrupt, Stop& stop) {
  Source source(path);
  while (!source.ended()) {
    if (interrupt.wait(source.fd(), -1) != 0) {
      stop = {kInterrupted, "interrupted while reading " + source.name()};
      return std::nullopt;
    }
    source.fill();
  }
  if (source.problem().empty()) return source.take_all();
  stop = {kUsage, source.problem()};
  return std::nullopt;
}

}  // namespace troupe::cli
