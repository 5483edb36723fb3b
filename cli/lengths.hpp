// Lengths of requests from a file: a JSON list of [input, output], or an object whose "requests" is
// one.
#pragma once

#include <string>
#include <vector>

#include "cli/exit_codes.hpp"
#include "cli/interrupt.hpp"
#include "cli/workload.hpp"

namespace troupe::cli {

// No request is longer than `context`. Nothing, with the reason in `stop`, when one is, or is no
// request.
std::vector<Job> jobs_of_file(const std::string& path, int32_t context, Interrupt& interrupt,
                              Stop& stop);

}  // namespace troupe::cli
