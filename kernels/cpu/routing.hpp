// The choice of experts for a row as kernels/cpu/plain/experts.cpp defines it, without allocating.
#pragma once

#include <algorithm>
#include <span>

#include "kernels/backend.hpp"

namespace troupe::cpu {

// Working memory of one thread.
struct RoutingRoom {
  double* scores = nullptr;  // experts
  double* choice = nullptr;  // experts
  double* groups = nullptr;  // groups
  int32_t* order = nullptr;  // max(experts, groups)

  static int64_t doubles(const RoutingSpec& spec) { return 2 * int64_t{spec.experts} + spec.groups; }
  static int64_t integers(const RoutingSpec& spec) { return std::max(spec.experts, spec.groups); }
};

// Fills top_k experts, the best first, and their weights. Where there are fewer experts than
// top_k the rest are -1.
void route(const RoutingSpec& spec, std::span<const float> logits, std::span<const int32_t> forced,
           const RoutingRoom& room, std::span<int32_t> experts, std::span<float> weights);

}  // namespace troupe::cpu
