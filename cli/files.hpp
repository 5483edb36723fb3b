// Whole files as bytes; "-" is stdin.
#pragma once

#include <optional>
#include <string>

namespace troupe::cli {

// Nothing, with the reason in `problem`, when it cannot be read.
std::optional<std::string> read_file(const std::string& path, std::string& problem);

}  // namespace troupe::cli
