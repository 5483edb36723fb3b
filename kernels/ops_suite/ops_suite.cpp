#include "kernels/ops_suite/ops_suite.hpp"

#include <algorithm>
#include <sstream>

#include "kernels/ops_suite/cases.hpp"
#include "kernels/ops_suite/lab.hpp"

namespace troupe::ops_suite {
namespace {

constexpr OpsCase kCases[] = {
    {"embed", embed_case},
    {"inject_gather", inject_gather_case},
    {"norm", norm_case},
    {"norm_group", norm_group_case},
    {"add", add_case},
    {"linear_few_rows", linear_few_rows_case},
    {"linear_many_rows", linear_many_rows_case},
    {"linear_parts", linear_parts_case},
    {"linear_select", linear_select_case},
    {"head_linear", head_linear_case},
    {"rope", rope_case},
    {"rope_long", rope_long_case},
    {"rope_sections", rope_sections_case},
    {"attention_prefill", attention_prefill_case},
    {"attention_mixed", attention_mixed_case},
    {"attention_decode", attention_decode_case},
    {"attention_window", attention_window_case},
    {"attention_extras", attention_extras_case},
    {"attention_spans", attention_spans_case},
    {"attention_latent", attention_latent_case},
    {"attention_cross", attention_cross_case},
    {"block_copies", block_copies_case},
    {"packed_attention", packed_attention_case},
    {"packed_attention_keys", packed_attention_keys_case},
    {"scale_columns", scale_columns_case},
    {"mix_rows", mix_rows_case},
    {"activation", activation_case},
    {"gated_activation", gated_activation_case},
    {"experts", experts_case},
    {"experts_few", experts_few_case},
    {"experts_many", experts_many_case},
    {"experts_groups", experts_groups_case},
    {"sample_greedy", sample_greedy_case},
    {"sample_head", sample_head_case},
    {"sample_rules", sample_rules_case},
    {"sample_draw", sample_draw_case},
    {"sample_top", sample_top_case},
    {"sample_crowd", sample_crowd_case},
    {"sample_logprobs", sample_logprobs_case},
    {"sample_feedback", sample_feedback_case},
    {"sample_poison", sample_poison_case},
};

void merge(OpsReport& into, OpsReport&& from) {
  for (OpsFinding& f : from.failures) into.failures.push_back(std::move(f));
  into.comparisons += from.comparisons;
  into.worst = std::max(into.worst, from.worst);
}

}  // namespace

std::span<const OpsCase> ops_cases() { return kCases; }

OpsReport run_ops_case(Backend& backend, const OpsCase& one, DType weights, uint64_t seed) {
  Lab lab(backend, weights, seed,
          std::string(one.name) + "/" + dtype_name(weights) + "/" + std::to_string(seed));
  one.run(lab);
  return lab.take();
}

OpsReport run_ops_suite(Backend& backend, const OpsSuiteOptions& options) {
  OpsReport all;
  for (const OpsCase& one : ops_cases()) {
    if (std::string_view(one.name).find(options.only) == std::string_view::npos) continue;
    for (DType weights : options.weights) {
      for (int32_t round = 0; round < options.rounds; ++round) {
        merge(all, run_ops_case(backend, one, weights, options.seed + static_cast<uint64_t>(round)));
      }
    }
  }
  return all;
}

std::string describe(const OpsReport& report) {
  std::ostringstream out;
  out << report.comparisons << " comparisons, " << report.failures.size()
      << " failed; the worst that passed used " << report.worst << " of its tolerance\n";
  for (const OpsFinding& f : report.failures) {
    out << "  " << f.what << ": " << f.error << " > " << f.tolerance << "\n";
  }
  return out.str();
}

}  // namespace troupe::ops_suite
