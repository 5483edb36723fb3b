// Fuzz target: any bytes as config.json. A description that is accepted must be safe to plan with.
#include "models/cache_plan.hpp"
#include "models/config.hpp"
#include "models/families/families.hpp"
#include "models/fuzz.hpp"
#include "models/weights.hpp"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace troupe::models;
  const auto fields = Fields::parse({reinterpret_cast<const char*>(data), size}, "config.json");
  if (!fields.ok()) return 0;
  ModelDescription model;
  if (!describe(*fields, model).ok()) return 0;
  for (const RopeConfig& rope : model.ropes) make_rope(rope);
  for (const int32_t ranks : {1, 2, 8}) {
    if (!check_ranks(model, ranks).ok()) continue;
    const CachePlan plan = plan_caches(model, ranks, troupe::DType::f16, 16);
    TR_ASSERT(plan.places.size() == model.layers.size());
  }
  TR_ASSERT(count_parameters(model) > 0);
  return 0;
}
