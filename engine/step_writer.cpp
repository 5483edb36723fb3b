#include "engine/step_writer.hpp"

#include <algorithm>

namespace troupe::engine {
namespace {

template <class T>
int32_t count_of(const std::vector<T>& v) {
  return static_cast<int32_t>(v.size());
}

// What the slot has not been told of yet, into the sequence's tables of the plan.
void write_tables(StepPlanDraft& draft, PlanTable* out, KvTables& tables, int32_t block_tokens) {
  if (tables.all_told) {
    for (int32_t g = 0; g < draft.groups; ++g) *out++ = {.kept = PlanTable::kUnchanged};
    return;
  }
  for (KvTable& table : tables.groups) {
    const int32_t from = std::max(table.first, table.told);
    *out++ = {count_of(draft.blocks), count_of(table.blocks) - from, table.first * block_tokens,
              from - table.first};
    draft.blocks.insert(draft.blocks.end(), table.blocks.begin() + from, table.blocks.end());
    table.told = count_of(table.blocks);
  }
  tables.all_told = true;
}

// Sections that are empty unless some row needs them: filled up for the rows before this sequence
// once one does.
template <class T>
bool optional_rows(std::vector<T>& section, bool wanted, size_t rows_before, T filler) {
  if (!wanted && section.empty()) return false;
  section.resize(rows_before, filler);
  return true;
}

void write_optional(StepPlanDraft& draft, const Sequence& s, int32_t begin, int32_t count,
                    size_t rows_before) {
  const Prompt& prompt = s.job->spec.prompt;
  const int32_t prompt_len = s.job->prompt_len();
  if (optional_rows(draft.adapters, s.job->spec.adapter >= 0, rows_before, int32_t{-1})) {
    draft.adapters.insert(draft.adapters.end(), static_cast<size_t>(count), s.job->spec.adapter);
  }
  if (optional_rows(draft.modality, !prompt.modality.empty(), rows_before, uint8_t{0})) {
    for (int32_t p = begin; p < begin + count; ++p) {
      const auto i = static_cast<size_t>(p);
      draft.modality.push_back(i < prompt.modality.size() ? prompt.modality[i] : uint8_t{0});
    }
  }
  if (!prompt.span_ends.empty() || !draft.span_ends.empty()) {
    for (auto row = draft.span_ends.size(); row < rows_before; ++row) {
      draft.span_ends.push_back(draft.positions[row] + 1);
    }
    for (int32_t p = begin; p < begin + count; ++p) {
      const auto i = static_cast<size_t>(p);
      draft.span_ends.push_back(i < prompt.span_ends.size() ? prompt.span_ends[i] : p + 1);
    }
  }
  if (optional_rows(draft.cross_spans, !prompt.cross.empty(), 2 * rows_before, int32_t{0})) {
    const CrossRows last = prompt.cross.empty() ? CrossRows{} : prompt.cross.back();
    for (int32_t p = begin; p < begin + count; ++p) {
      const auto i = static_cast<size_t>(p);
      const CrossRows seen = i < prompt.cross.size() ? prompt.cross[i] : last;
      draft.cross_spans.insert(draft.cross_spans.end(), {seen.begin, seen.end});
    }
  }
  if (!prompt.rope_positions.empty() || !draft.rope_positions.empty()) {
    for (auto row = draft.rope_positions.size() / 3; row < rows_before; ++row) {
      draft.rope_positions.insert(draft.rope_positions.end(), 3, draft.positions[row]);
    }
    for (int32_t p = begin; p < begin + count; ++p) {
      const bool given = p < prompt_len && !prompt.rope_positions.empty();
      for (int32_t axis = 0; axis < 3; ++axis) {
        draft.rope_positions.push_back(
            given ? prompt.rope_positions[static_cast<size_t>(3 * p + axis)] : p + prompt.rope_delta);
      }
    }
  }
}

void write_injects(StepPlanDraft& draft, const Sequence& s, int32_t begin, int32_t count,
                   int32_t row_begin, int32_t plan_index) {
  for (const PromptImage& image : s.job->spec.prompt.images) {
    const int32_t from = std::max(begin, image.position);
    const int32_t to = std::min(begin + count, image.position + image.rows);
    if (from >= to) continue;
    const int32_t row = row_begin + from - begin;
    draft.injects.push_back({image.embedding, row, to - from,
                             image.source_row + from - image.position, plan_index});
    std::fill_n(draft.token_ids.begin() + row, to - from, kTokenInjected);
  }
}

void write_lists(StepPlanDraft& draft, const Sequence& s, PlanSampling& out) {
  const SamplingPlan& p = s.job->spec.sampling;
  const int32_t drawn = s.length() - s.terms.prompt_len;
  const std::vector<PlanBias>& biases = drawn < p.min_tokens ? p.early_biases : p.biases;
  out.bias_begin = count_of(draft.biases);
  out.bias_count = count_of(biases);
  draft.biases.insert(draft.biases.end(), biases.begin(), biases.end());
  out.bad_begin = count_of(draft.token_lists);
  out.bad_count = p.bad_word_count;
  draft.token_lists.insert(draft.token_lists.end(), p.bad_words.begin(), p.bad_words.end());
}

// The slot's first draw forgets who had the slot before.
void write_history(StepPlanDraft& draft, Sequence& s, PlanSampling& out) {
  const SamplingPlan& p = s.job->spec.sampling;
  out.reset = 1;
  s.lease.fresh = false;
  if (!p.needs_history()) return;
  // Bad words look at the tail only; penalties count everything.
  const int32_t from = p.counts_tokens() ? 0 : std::max(0, s.known() - kSlotTail);
  out.history_begin = count_of(draft.token_lists);
  for (int32_t i = from; i < s.known(); ++i) draft.token_lists.push_back(s.token(i));
  out.history_count = s.known() - from;
  out.history_prompt = std::max(0, s.terms.prompt_len - from);
}

}  // namespace

int32_t write_rows(StepPlanDraft& draft, Sequence& s, int32_t begin, int32_t count,
                   int32_t block_tokens) {
  const int32_t plan_index = count_of(draft.sequences);
  const int32_t row_begin = count_of(draft.token_ids);
  const int32_t known = s.known();
  draft.sequences.push_back({s.lease.slot, row_begin, count, begin + count, s.terms.prompt_len,
                             s.terms.cross_rows});
  for (int32_t p = begin; p < begin + count; ++p) {
    draft.token_ids.push_back(p < known ? s.token(p) : kTokenFromSlot);
    draft.positions.push_back(p);
  }
  const bool others_are_plain =
      draft.adapters.empty() && draft.modality.empty() && draft.rope_positions.empty() &&
      draft.span_ends.empty() && draft.cross_spans.empty();
  if (!s.terms.plain_rows || !others_are_plain) {
    write_optional(draft, s, begin, count, static_cast<size_t>(row_begin));
    write_injects(draft, s, begin, count, row_begin, plan_index);
  }
  const size_t first_table = draft.tables.size();
  draft.tables.resize(first_table + static_cast<size_t>(draft.groups));
  write_tables(draft, &draft.tables[first_table], s.lease.kv, block_tokens);
  return plan_index;
}

void write_news(StepPlanDraft& draft, Sequence& s, int32_t end, int32_t block_tokens) {
  draft.sequences.push_back({s.lease.slot, 0, 1, end, s.terms.prompt_len, s.terms.cross_rows});
  const size_t first_table = draft.tables.size();
  draft.tables.resize(first_table + static_cast<size_t>(draft.groups));
  write_tables(draft, &draft.tables[first_table], s.lease.kv, block_tokens);
}

void write_draw(StepPlanDraft& draft, Sequence& s, int32_t plan_index, int32_t row) {
  draft.logit_rows.push_back({row, plan_index, count_of(draft.sampling), -1, s.terms.logprobs});
  PlanSampling& out = draft.sampling.emplace_back(s.draw);
  out.slot = s.lease.slot;
  out.position = s.length();
  if (!s.terms.plain_draw) write_lists(draft, s, out);
  if (s.lease.fresh) write_history(draft, s, out);
}

void write_score(StepPlanDraft& draft, const Sequence& s, int32_t plan_index, int32_t row,
                 int32_t position) {
  draft.logit_rows.push_back(
      {row, plan_index, -1, s.token(position + 1), s.job->spec.sampling.prompt_logprobs});
}

}  // namespace troupe::engine
