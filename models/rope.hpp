// Rotary position embeddings: what config.json says of them, and the frequencies that follow.
//
// All scalings are worked out here, on the host, once: linear, dynamic NTK, llama3, YaRN, LongRoPE.
// What depends on a sequence's length stays in RopeSpec (kernels/backend.hpp) for the op to choose.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/backend.hpp"

namespace troupe::models {

class Fields;

enum class RopeScaling : uint8_t { none, linear, dynamic, llama3, yarn, longrope };

struct RopeConfig {
  RopeStyle style = RopeStyle::half;
  int32_t rotary_dim = 0;  // 0: the layer does not rotate
  double theta = 10000.0;
  RopeScaling scaling = RopeScaling::none;
  double factor = 1.0;
  int32_t original_length = 0;  // context length before scaling
  double attention_factor = 0.0;  // 0: follows from factor
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  double beta_fast = 32.0, beta_slow = 1.0;  // yarn
  double mscale = 0.0, mscale_all_dim = 0.0;  // yarn; 0: silent
  bool truncate = true;  // yarn
  std::vector<double> short_factors, long_factors;  // longrope
  int32_t sections[3] = {0, 0, 0};  // M-RoPE
  bool sections_interleaved = false;
};

struct RopeDefaults {
  int32_t head_dim = 0;  // of the rotated part
  double partial = 1.0;  // share of it that is rotated
  double theta = 10000.0;
  int32_t context_length = 0;
};

// Reads rope_theta and rope_scaling, or the newer rope_parameters, of a config. `layer_type` picks
// among nested rope_parameters ("full_attention", "sliding_attention"); empty when there is one
// rope.
RopeConfig read_rope(const Fields& config, const RopeDefaults& defaults,
                     std::string_view layer_type = {});

struct RopeTables {
  std::vector<float> frequencies;  // tables x rotary_dim / 2
  int32_t tables = 1;
  RopeSpec spec;  // without `frequencies`, which live on a device
};
RopeTables make_rope(const RopeConfig& config);

// 0.1 * mscale * ln(factor) + 1: what YaRN multiplies attention with (DeepSeek squares it).
double yarn_mscale(double factor, double mscale);

}  // namespace troupe::models
