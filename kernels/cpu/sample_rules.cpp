#include "kernels/cpu/sample_rules.hpp"

#include <limits>

namespace troupe::cpu {
namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();

void forbid_bad_words(std::span<const int32_t> lists, int32_t words, const SlotState& slot,
                      std::span<float> logits) {
  size_t i = 0;
  for (int32_t w = 0; w < words && i < lists.size(); ++w) {
    const int32_t length = lists[i++];
    if (length < 1 || static_cast<size_t>(length) > lists.size() - i) return;
    const auto word = lists.subspan(i, static_cast<size_t>(length));
    i += word.size();
    const int32_t last = word.back();
    if (last < 0 || static_cast<size_t>(last) >= logits.size()) continue;
    if (slot.ends_with(word.first(word.size() - 1))) logits[static_cast<size_t>(last)] = kForbidden;
  }
}

void apply_mask(std::span<const uint32_t> mask, std::span<float> logits) {
  for (size_t word = 0; word * 32 < logits.size(); ++word) {
    if (mask[word] == ~uint32_t{0}) continue;
    const auto tokens = logits.subspan(word * 32, std::min<size_t>(32, logits.size() - word * 32));
    for (size_t bit = 0; bit < tokens.size(); ++bit) {
      if ((mask[word] >> bit & 1U) == 0) tokens[bit] = kForbidden;
    }
  }
}

void penalise(const PlanSampling& s, const TokenCounts& counts, std::span<float> logits) {
  for (const TokenCounts::Entry& e : counts.entries()) {
    if (e.token < 0 || static_cast<size_t>(e.token) >= logits.size()) continue;
    float& logit = logits[static_cast<size_t>(e.token)];
    logit = logit > 0.0F ? logit / s.repetition_penalty : logit * s.repetition_penalty;
    if (e.output == 0) continue;
    logit -= s.presence_penalty + s.frequency_penalty * static_cast<float>(e.output);
  }
}

}  // namespace

void apply_rules(const PlanView& plan, const PlanSampling& s, const SlotState& slot,
                 std::span<const uint32_t> mask_rows, std::span<float> logits) {
  for (const PlanBias& b : plan.biases().subspan(static_cast<size_t>(s.bias_begin),
                                                 static_cast<size_t>(s.bias_count))) {
    if (b.token >= 0 && static_cast<size_t>(b.token) < logits.size()) {
      logits[static_cast<size_t>(b.token)] += b.bias;
    }
  }
  forbid_bad_words(plan.token_lists().subspan(static_cast<size_t>(s.bad_begin)), s.bad_count, slot,
                   logits);
  const size_t words = (logits.size() + 31) / 32;
  const auto mask_begin = static_cast<size_t>(s.mask_row < 0 ? 0 : s.mask_row) * words;
  if (s.mask_row >= 0 && mask_begin + words <= mask_rows.size()) {
    apply_mask(mask_rows.subspan(mask_begin, words), logits);
  }
  if (has_penalties(s)) penalise(s, slot.counts, logits);
}

}  // namespace troupe::cpu
