// What the engine must know of a model to plan for it, and nothing about how it computes.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kernels/backend.hpp"

namespace troupe::models {

// whole: every token is kept. window: only the last `window` tokens are. latent: whole, compressed.
// fixed: one allotment per sequence (encoder rows of cross-attention).
enum class CacheKind : uint8_t { whole, window, latent, fixed };

// Layers that share block tables. Group i of a plan is groups[i].
struct CacheGroup {
  CacheKind kind = CacheKind::whole;
  int32_t window = 0;
  int32_t fixed_rows = 0;
  KvCacheSpec cache;  // blocks is 0 until the memory is planned; heads are one rank's
};

struct ModelFacts {
  std::string family;
  int32_t vocab = 0;
  int32_t hidden = 0;
  int32_t layers = 0;
  int32_t context_length = 0;
  int64_t parameters = 0;
  int64_t weight_bytes = 0;
  DType dtype = DType::f32;
  std::vector<CacheGroup> groups;
  std::vector<int32_t> eos_tokens;  // config.json and generation_config.json together
  int32_t bos_token = -1;
  int32_t pad_token = -1;
  bool vision = false;
  // Rope scalings that look at a sequence's length make the same tokens give other keys. Sequences
  // share cached prefixes only within one regime: 0 up to regime_length; beyond, longrope has one
  // more regime, dynamic NTK one for every length.
  int32_t regime_length = 0;
  bool regime_per_length = false;
  [[nodiscard]] uint64_t rope_regime(int32_t length) const {
    if (regime_length == 0 || length <= regime_length) return 0;
    return regime_per_length ? static_cast<uint64_t>(length) : 1;
  }
};

// Defaults that generation_config.json gives; NaN or negative where it is silent.
struct GenerationDefaults {
  float temperature = std::numeric_limits<float>::quiet_NaN();
  float top_p = std::numeric_limits<float>::quiet_NaN();
  float min_p = std::numeric_limits<float>::quiet_NaN();
  float repetition_penalty = std::numeric_limits<float>::quiet_NaN();
  int32_t top_k = -1;
  int32_t max_new_tokens = -1;
  bool greedy = false;  // do_sample: false
};

}  // namespace troupe::models
