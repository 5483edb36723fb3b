// By which angle each pair of a row's elements turns: positions on three axes, a second table for
// long sequences, a base that grows with their length.
#pragma once

#include "kernels/cuda/elementwise.hpp"

namespace troupe::cuda::rope {

// Which of the three positions (time, height, width) turns pair i.
__device__ __forceinline__ int axis_of(const Rope& r, int i) {
  if (r.sections_interleaved) {
    const int axis = i % 3;
    return axis != 0 && i < 3 * r.sections[axis] ? axis : 0;
  }
  if (i < r.sections[0]) return 0;
  return i < r.sections[0] + r.sections[1] ? 1 : 2;
}

// By how much pair i of a row turns: cosine and sine.
__device__ __forceinline__ float2 turn_of(const RopeWrite& p, int row, int i) {
  const Rope& r = p.rope;
  const int position = p.positions[row];
  const int length = max(p.prompt_lengths[row], position + 1);
  const bool far = r.two_tables && length > r.short_length;
  const float scale = far ? r.attention_scale_long : r.attention_scale;
  float frequency = r.frequencies[(far ? r.table_stride : 0) + i];
  if (r.dynamic_base > 0.0F && length > r.dynamic_length) {
    const double dim = r.rotary_dim;
    const double stretch = static_cast<double>(r.dynamic_factor) * length / r.dynamic_length -
                           (static_cast<double>(r.dynamic_factor) - 1.0);
    const double base = static_cast<double>(r.dynamic_base) * pow(stretch, dim / (dim - 2.0));
    frequency = static_cast<float>(pow(base, -2.0 * i / dim));
  }
  int at = position;
  if (p.rope_positions != nullptr && r.sections[0] + r.sections[1] + r.sections[2] > 0) {
    at = p.rope_positions[row * 3 + axis_of(r, i)];
  }
  float sine, cosine;
  sincosf(static_cast<float>(at) * frequency, &sine, &cosine);
  return {cosine * scale, sine * scale};
}

__device__ inline void make_angles(const RopeWrite& p, int row, float2* angles) {
  for (int i = threadIdx.x; i < p.rope.rotary_dim / 2; i += blockDim.x)
    angles[i] = turn_of(p, row, i);
}

}  // namespace troupe::cuda::rope
