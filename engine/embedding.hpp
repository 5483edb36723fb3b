// The rows that stand for a picture in a prompt, as they lie on a device, and what keeps them there.
// Shared by whoever needs them: the balancer's cache, requests, sessions, steps in flight.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/backend.hpp"

namespace troupe::engine {

struct Embedding {
  Matrix rows;
  std::shared_ptr<const void> owner;  // of the memory behind `rows`
  // That memory, where the host may not be able to read it; null: it can.
  const DeviceBuffer* buffer = nullptr;
};
using EmbeddingPtr = std::shared_ptr<const Embedding>;

// One that a step's injects or encodes refer to.
struct StepEmbedding {
  uint64_t id = 0;
  EmbeddingPtr data;
};

}  // namespace troupe::engine
