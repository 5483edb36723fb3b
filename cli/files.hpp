// Whole files as bytes; "-" is stdin.
#pragma once

#include <optional>
#include <string>

#include "cli/exit_codes.hpp"
#include "cli/interrupt.hpp"

namespace troupe::cli {

// Nothing, with the reason in `stop`, when it cannot be read or a signal came first.
std::optional<std::string> read_file(const std::string& path, Interrupt& interrupt, Stop& stop);

}  // namespace troupe::cli
