// experts: the rows that chose an expert are run through it together, expert after expert; each
// row's results are added up in order of experts, so a row's sum does not depend on its company.
#include <algorithm>

#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/routing.hpp"

namespace troupe::cpu {
namespace {

// Who chose whom: for expert e the entries [first[e], first[e + 1]) of rows and weights.
struct Choices {
  int32_t* first = nullptr;  // experts + 1
  int32_t* rows = nullptr;
  float* weights = nullptr;
};

Choices choose(Context& c, const ExpertsArgs& a, int32_t local_count) {
  const RoutingSpec& routing = *a.routing;
  const int64_t rows = a.input.rows;
  const int64_t chosen = rows * routing.top_k;
  int32_t* lists = c.scratch.get<int32_t>(Use::expert_lists, 2 * chosen + 2 * (local_count + 1));
  float* weights = c.scratch.get<float>(Use::expert_weights, 2 * chosen);
  int32_t* picked = lists;          // rows x top_k: local expert or -1
  float* picked_weights = weights;  // rows x top_k
  Choices out{lists + chosen, lists + chosen + 2 * (local_count + 1), weights + chosen};
  const auto top_k = static_cast<size_t>(routing.top_k);
  const int64_t doubles = RoutingRoom::doubles(routing);
  const int64_t integers = RoutingRoom::integers(routing);
  double* room_doubles = c.scratch.get<double>(Use::routing_scores, doubles * c.pool.threads());
  int32_t* room_integers = c.scratch.get<int32_t>(Use::routing_order, integers * c.pool.threads());
  c.pool.for_range(rows, 16, [&](int64_t begin, int64_t end, int32_t thread) {
    double* own = room_doubles + doubles * thread;
    const RoutingRoom room{own, own + routing.experts, own + 2 * routing.experts,
                           room_integers + integers * thread};
    for (int64_t r = begin; r < end; ++r) {
      const auto at = static_cast<size_t>(r) * top_k;
      const std::span<int32_t> chosen_here(picked + at, top_k);
      route(routing, {a.router_logits.row<float>(r), static_cast<size_t>(routing.experts)},
            a.forced.empty() ? a.forced : a.forced.subspan(at, top_k), room, chosen_here,
            {picked_weights + at, top_k});
      for (int32_t& e : chosen_here) {
        const int32_t local = e < 0 ? -1 : e - a.first_expert;
        e = local >= 0 && local < local_count ? local : -1;
      }
    }
  });
  int32_t* next = out.first + local_count + 1;
  std::fill_n(out.first, 2 * (local_count + 1), 0);
  for (int64_t i = 0; i < chosen; ++i) {
    if (picked[i] >= 0) ++out.first[picked[i] + 1];
  }
  for (int32_t e = 0; e < local_count; ++e) {
    out.first[e + 1] += out.first[e];
    next[e] = out.first[e];
  }
  for (int64_t i = 0; i < chosen; ++i) {
    if (picked[i] < 0) continue;
    const int32_t slot = next[picked[i]]++;
    out.rows[slot] = static_cast<int32_t>(i / routing.top_k);
    out.weights[slot] = picked_weights[i];
  }
  return out;
}

void run_expert(Context& c, const ExpertsArgs& a, size_t expert, const int32_t* rows,
                const float* weights, int64_t count) {
  const LinearWeight& gate_up = a.gate_up[expert];
  const LinearWeight& down = a.down[expert];
  const int64_t inner = gate_up.out / 2;
  float* both = c.scratch.get<float>(Use::expert_gate_up, count * gate_up.out);
  float* activated = c.scratch.get<float>(Use::expert_inner, count * inner);
  float* result = c.scratch.get<float>(Use::expert_output, count * down.out);
  linear_rows(c, {a.input.row<float>(0), a.input.stride, rows, both, gate_up.out, nullptr, count}, gate_up);
  gated_activation(c, {a.activation, {both, DType::f32, count, gate_up.out, gate_up.out},
                       {activated, DType::f32, count, inner, inner}});
  linear_rows(c, {activated, inner, nullptr, result, down.out, nullptr, count}, down);
  const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(down.out, 1));
  c.pool.for_range(count, grain, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t i = begin; i < end; ++i) {
      float* to = a.output.row<float>(rows[i]);
      const float* from = result + i * down.out;
      for (int64_t n = 0; n < down.out; ++n) to[n] += weights[i] * from[n];
    }
  });
}

}  // namespace

void experts(Context& c, const ExpertsArgs& a) {
  TR_ASSERT(a.input.dtype == DType::f32 && a.output.dtype == DType::f32);
  if (a.input.rows == 0) return;
  const auto local_count = static_cast<int32_t>(a.gate_up.size());
  const Choices choices = choose(c, a, local_count);
  for (int64_t r = 0; r < a.input.rows; ++r) std::fill_n(a.output.row<float>(r), a.output.cols, 0.0F);
  for (int32_t e = 0; e < local_count; ++e) {
    const int32_t begin = choices.first[e];
    const int32_t count = choices.first[e + 1] - begin;
    if (count > 0) {
      run_expert(c, a, static_cast<size_t>(e), choices.rows + begin, choices.weights + begin, count);
    }
  }
}

}  // namespace troupe::cpu
