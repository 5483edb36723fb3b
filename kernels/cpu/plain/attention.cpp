#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/half.hpp"
#include "kernels/cpu/kv_cache.hpp"
#include "kernels/cpu/paged.hpp"
#include "kernels/cpu/plain/plain.hpp"

namespace troupe::cpu::plain {
namespace {

// Softmax of scores, a sink (if any) taking its share of the sum and giving no value.
void softmax(std::vector<double>& scores, const float* sink) {
  double highest = sink != nullptr ? double{*sink} : -std::numeric_limits<double>::infinity();
  for (double s : scores) highest = std::max(highest, s);
  double sum = sink != nullptr ? std::exp(double{*sink} - highest) : 0.0;
  for (double& s : scores) sum += s = std::exp(s - highest);
  for (double& s : scores) s /= sum;
}

struct Visible {
  int32_t begin = 0;
  int32_t end = 0;
};

Visible visible(const Batch& batch, const AttentionArgs& a, const PlanSequence& s, int32_t row) {
  const auto r = static_cast<size_t>(row);
  if (a.span == AttentionSpan::cross) {
    const auto spans = batch.plan.cross_spans();
    if (spans.empty()) return {0, s.cross_len};
    return {std::max(spans[2 * r], 0), std::min(spans[2 * r + 1], s.cross_len)};
  }
  const int32_t position = batch.plan.positions()[r];
  const auto span_ends = batch.plan.span_ends();
  const int32_t span_end = span_ends.empty() ? 0 : span_ends[r];
  const int32_t begin = a.window > 0 ? std::max(0, position + 1 - a.window) : 0;
  return {begin, std::min(std::max(position + 1, span_end), s.kv_len)};
}

void attend(const Batch& batch, const AttentionArgs& a, int32_t s, int32_t row, int32_t head) {
  const auto& cache = *static_cast<const HostKvCache*>(a.cache);
  const KvCacheSpec& spec = cache.spec();
  const PlanSequence& sequence = batch.plan.sequences()[static_cast<size_t>(s)];
  const int32_t kv_head = head / (a.heads / spec.kv_heads);
  const int32_t position = batch.plan.positions()[static_cast<size_t>(row)];
  const Visible range = visible(batch, a, sequence, row);
  std::vector<double> scores;
  for (int32_t t = range.begin; t < range.end; ++t) {
    const PagedToken token = paged_token(batch, s, a.group, spec.block_tokens, t);
    double score = 0.0;
    for (int32_t d = 0; d < spec.key_dim; ++d) {
      score += double{at(a.query, row, int64_t{head} * spec.key_dim + d)} *
               double{key_at(cache, a.layer, token, kv_head, d)};
    }
    score *= double{a.scale};
    if (a.softcap > 0.0F) score = double{a.softcap} * std::tanh(score / double{a.softcap});
    if (a.alibi_slopes) score += double{at(a.alibi_slopes, 0, head)} * (t - position);
    scores.push_back(score);
  }
  const float sink = a.sinks ? at(a.sinks, 0, head) : 0.0F;
  softmax(scores, a.sinks ? &sink : nullptr);
  for (int32_t d = 0; d < spec.value_dim; ++d) {
    double sum = 0.0;
    for (int32_t t = range.begin; t < range.end; ++t) {
      const PagedToken token = paged_token(batch, s, a.group, spec.block_tokens, t);
      sum += scores[static_cast<size_t>(t - range.begin)] *
             double{value_at(cache, a.layer, token, kv_head, d)};
    }
    put(a.output, row, int64_t{head} * spec.value_dim + d, static_cast<float>(sum));
  }
}

}  // namespace

void attention(const Batch& batch, const AttentionArgs& a) {
  for (int32_t s = 0; s < batch.sequences; ++s) {
    const PlanSequence& sequence = batch.plan.sequences()[static_cast<size_t>(s)];
    for (int32_t i = 0; i < sequence.row_count; ++i) {
      for (int32_t h = 0; h < a.heads; ++h) attend(batch, a, s, sequence.row_begin + i, h);
    }
  }
}

void cross_write(const Batch& batch, const CrossWriteArgs& a) {
  const auto& cache = *static_cast<const HostKvCache*>(a.cache);
  for (int64_t r = 0; r < a.key.rows; ++r) {
    const PagedToken token = paged_token(batch, a.sequence, a.group, cache.spec().block_tokens,
                                         static_cast<int32_t>(r));
    write_token(cache, a.layer, token, a.key, a.value, r);
  }
}

void packed_attention(const PackedAttentionArgs& a) {
  if (a.heads == 0) return;
  const int64_t dim = a.query.cols / a.heads;
  const int64_t value_dim = a.value.cols / a.kv_heads;
  const auto keys = a.key_ends.empty() ? a.ends : a.key_ends;
  int32_t row_begin = 0, begin = 0;
  for (size_t i = 0; i < a.ends.size(); ++i) {
    const int32_t end = keys[i];
    for (int64_t r = row_begin; r < a.ends[i]; ++r) {
      for (int64_t h = 0; h < a.heads; ++h) {
        const int64_t kv = h / (a.heads / a.kv_heads);
        std::vector<double> scores;
        for (int64_t t = begin; t < end; ++t) {
          double score = 0.0;
          for (int64_t d = 0; d < dim; ++d) {
            score += double{at(a.query, r, h * dim + d)} * double{at(a.key, t, kv * dim + d)};
          }
          scores.push_back(score * double{a.scale});
        }
        softmax(scores, nullptr);
        for (int64_t d = 0; d < value_dim; ++d) {
          double sum = 0.0;
          for (int64_t t = begin; t < end; ++t) {
            sum += scores[static_cast<size_t>(t - begin)] * double{at(a.value, t, kv * value_dim + d)};
          }
          put(a.output, r, h * value_dim + d, static_cast<float>(sum));
        }
      }
    }
    row_begin = a.ends[i];
    begin = end;
  }
}

}  // namespace troupe::cpu::plain
