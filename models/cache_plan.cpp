#include "models/cache_plan.hpp"

namespace troupe::models {
namespace {

CacheGroup group_of(const GroupedQuery& m, int32_t ranks) {
  CacheGroup g;
  g.kind = m.window > 0 ? CacheKind::window : CacheKind::whole;
  g.window = m.window;
  g.cache.kv_heads = rank_heads(m.kv_heads, ranks);
  g.cache.key_dim = m.head_dim;
  g.cache.value_dim = m.head_dim;
  return g;
}

CacheGroup group_of(const Latent& m, int32_t /*ranks*/) {
  CacheGroup g;
  g.kind = CacheKind::latent;
  g.cache.kv_heads = 1;
  g.cache.key_dim = m.latent_dim + m.rope_dim;
  g.cache.value_dim = m.latent_dim;
  g.cache.values_in_keys = true;
  return g;
}

CacheGroup group_of(const Cross& m, int32_t ranks) {
  CacheGroup g;
  g.kind = CacheKind::fixed;
  g.fixed_rows = m.encoder_rows;
  g.cache.kv_heads = rank_heads(m.kv_heads, ranks);
  g.cache.key_dim = m.head_dim;
  g.cache.value_dim = m.head_dim;
  return g;
}

bool same(const CacheGroup& a, const CacheGroup& b) {
  return a.kind == b.kind && a.window == b.window && a.fixed_rows == b.fixed_rows &&
         a.cache.kv_heads == b.cache.kv_heads && a.cache.key_dim == b.cache.key_dim &&
         a.cache.value_dim == b.cache.value_dim;
}

}  // namespace

CachePlan plan_caches(const ModelDescription& model, int32_t ranks, DType dtype,
                      int32_t block_tokens) {
  CachePlan plan;
  for (const Layer& layer : model.layers) {
    CacheGroup group = std::visit([&](const auto& m) { return group_of(m, ranks); }, layer.mixer);
    group.cache.dtype = dtype;
    group.cache.block_tokens = block_tokens;
    size_t index = 0;
    while (index < plan.groups.size() && !same(plan.groups[index], group)) ++index;
    if (index == plan.groups.size()) plan.groups.push_back(group);
    plan.places.push_back({static_cast<int32_t>(index), plan.groups[index].cache.layers});
    ++plan.groups[index].cache.layers;
  }
  return plan;
}

}  // namespace troupe::models
