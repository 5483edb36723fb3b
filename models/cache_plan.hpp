// Which cache groups a model needs, and where each layer's share of them is.
#pragma once

#include <vector>

#include "models/description.hpp"
#include "models/facts.hpp"
#include "models/layers/layer.hpp"

namespace troupe::models {

struct CachePlan {
  std::vector<CacheGroup> groups;
  std::vector<CachePlace> places;  // one per layer
};

// Layers whose caches are of one kind and shape share a group, and so block tables.
CachePlan plan_caches(const ModelDescription& model, int32_t ranks, DType dtype,
                      int32_t block_tokens);

}  // namespace troupe::models
