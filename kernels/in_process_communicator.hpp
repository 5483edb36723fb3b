// Collectives among devices of one process: each rank is driven by a thread of its own, and a call
// returns on a rank once every rank has made it and the result is in place. Sums are added in order
// of ranks, so every rank holds the same bits. Host memory only.
#pragma once

#include <memory>
#include <vector>

#include "kernels/backend.hpp"

namespace troupe {

// Communicators of `size` ranks; they share one meeting point that lives as long as any of them.
std::vector<std::unique_ptr<Communicator>> make_in_process_communicators(int32_t size);

}  // namespace troupe
