#include "engine/sequence.hpp"

#include <algorithm>
#include <span>
#include <vector>

namespace troupe::engine {

void settle_terms(Sequence& s, int32_t output_max) {
  const Job& job = s.job->spec;
  const SamplingPlan& p = job.sampling;
  s.terms.request = job.id;
  s.terms.prompt_len = s.job->prompt_len();
  s.terms.output_max = output_max;
  if (!p.stop_tokens.empty()) {
    s.terms.stop_low = p.stop_tokens.front();
    s.terms.stop_high = p.stop_tokens.back();
  }
  s.terms.logprobs = p.logprobs;
  s.terms.cross_rows = job.prompt.cross_rows;
  const bool scores = p.prompt_logprobs >= 0 && s.choice == 0;
  s.terms.plain_rows = !scores && output_max > 0 && job.adapter < 0 && job.prompt.is_plain();
  s.terms.plain_draw = p.biases.empty() && p.early_biases.empty() && p.bad_word_count == 0;
  s.draw = PlanSampling{.top_k = p.top_k, .temperature = p.temperature, .top_p = p.top_p,
                        .min_p = p.min_p, .repetition_penalty = p.repetition_penalty,
                        .presence_penalty = p.presence_penalty,
                        .frequency_penalty = p.frequency_penalty, .seed = p.seed,
                        .choice = s.choice};
}

void extend_keys(Sequence& sequence, int32_t block_tokens) {
  const auto full = static_cast<size_t>(sequence.known() / block_tokens);
  std::vector<int32_t> tokens;  // of a block that an answer begins in the middle of
  for (size_t b = sequence.keys.size(); b < full; ++b) {
    const BlockKey& parent = b == 0 ? sequence.job->root : sequence.keys.back();
    const int32_t begin = static_cast<int32_t>(b) * block_tokens;
    std::span<const int32_t> block;
    if (begin >= sequence.terms.prompt_len) {
      block = sequence.progress.output.all().subspan(
          static_cast<size_t>(begin - sequence.terms.prompt_len), static_cast<size_t>(block_tokens));
    } else if (begin + block_tokens <= sequence.terms.prompt_len) {
      block = std::span(sequence.job->spec.prompt.tokens)
                  .subspan(static_cast<size_t>(begin), static_cast<size_t>(block_tokens));
    } else {
      tokens.clear();
      for (int32_t i = 0; i < block_tokens; ++i) tokens.push_back(sequence.token(begin + i));
      block = tokens;
    }
    // Its prompt, which lies elsewhere, need not be asked for pictures when there are none.
    sequence.keys.push_back(chain_key(parent, sequence.terms.plain_rows
                                                  ? block_content(block)
                                                  : content_of(sequence.job->spec.prompt, begin, block)));
  }
}

}  // namespace troupe::engine
