#include "models/test_runner.hpp"

#include <algorithm>
#include <utility>

namespace troupe::models::testing {
namespace {

int32_t blocks_per_sequence(const CacheGroup& g) {
  const int32_t tokens = g.kind == CacheKind::fixed ? g.fixed_rows : Runner::kTokens;
  return (tokens + g.cache.block_tokens - 1) / g.cache.block_tokens;
}

}  // namespace

Result<std::unique_ptr<Runner>> Runner::open(std::shared_ptr<const ModelFolder> folder,
                                             Backend& backend, Communicator* communicator,
                                             const LoadOptions& options) {
  std::unique_ptr<Runner> out(new Runner(backend));
  TR_ASSIGN(out->model_, Model::load(std::move(folder), backend, communicator, options));
  const ModelFacts& facts = out->model_->facts();
  for (const CacheGroup& group : facts.groups) {
    KvCacheSpec spec = group.cache;
    spec.blocks = kSequences * blocks_per_sequence(group);
    TR_ASSIGN(auto cache, backend.create_cache(spec));
    out->cache_views_.push_back(cache.get());
    out->caches_.push_back(std::move(cache));
  }
  TR_TRY(backend.reserve_steps(kSequences, kRows, kRows, facts.vocab));
  TR_TRY(out->model_->reserve(kRows, kRows));
  return out;
}

void Runner::forget(int32_t sequence) {
  lengths_[static_cast<size_t>(sequence)] = 0;
}

void Runner::add(const Piece& piece, StepPlanDraft& draft) {
  const auto index = static_cast<int32_t>(draft.sequences.size());
  int32_t& length = lengths_[static_cast<size_t>(piece.sequence)];
  PlanSequence sequence;
  sequence.slot = piece.sequence;
  sequence.row_begin = static_cast<int32_t>(draft.token_ids.size());
  sequence.row_count = static_cast<int32_t>(piece.tokens.size());
  sequence.kv_len = length + sequence.row_count;
  sequence.prompt_len = piece.prompt_len;
  sequence.cross_len = piece.cross_len;
  if (piece.encoder_rows) encoded_.push_back({index, piece.encoder_rows});
  for (const Piece::Inject& inject : piece.injects) {
    draft.injects.push_back({.id = 0,
                             .row = sequence.row_begin + inject.token,
                             .count = inject.count,
                             .source_row = inject.source_row,
                             .sequence = index});
    injects_.push_back(inject.source);
  }
  for (size_t i = 0; i < piece.tokens.size(); ++i) {
    const int32_t position = length;
    for (size_t axis = 0; axis < 3; ++axis) {
      draft.rope_positions.push_back(piece.rope.empty() ? position : piece.rope[3 * i + axis]);
    }
    for (size_t side = 0; side < 2; ++side) {
      const int32_t all = side == 0 ? 0 : piece.cross_len;
      draft.cross_spans.push_back(piece.cross_spans.empty() ? all
                                                            : piece.cross_spans[2 * i + side]);
    }
    draft.span_ends.push_back(piece.span_ends.empty() ? position + 1 : piece.span_ends[i]);
    if (!piece.targets.empty() && piece.targets[i] >= 0) {
      draft.logit_rows.push_back({.row = static_cast<int32_t>(draft.token_ids.size()),
                                  .sequence = index,
                                  .sampling = -1,
                                  .target = piece.targets[i],
                                  .top_n = 5});
    }
    draft.token_ids.push_back(piece.tokens[i]);
    draft.positions.push_back(length++);
    draft.modality.push_back(piece.modality.empty() ? uint8_t{0} : piece.modality[i]);
  }
  draft.sequences.push_back(sequence);
  for (const CacheGroup& group : model_->facts().groups) {
    const int32_t each = blocks_per_sequence(group);
    const int32_t size = group.cache.block_tokens;
    const int32_t tokens = group.kind == CacheKind::fixed ? piece.cross_len : sequence.kv_len;
    // Blocks that slid out of every row's window are gone, as in the engine.
    const int32_t seen = sequence.kv_len - sequence.row_count + 1 - group.window;
    const int32_t gone = group.kind == CacheKind::window ? std::max(0, seen) / size : 0;
    PlanTable table{.begin = static_cast<int32_t>(draft.blocks.size()),
                    .count = (tokens + size - 1) / size - gone,
                    .first_position = gone * size};
    for (int32_t b = gone; b < gone + table.count; ++b) {
      draft.blocks.push_back(piece.sequence * each + b);
    }
    draft.tables.push_back(table);
  }
}

Result<std::vector<Scored>> Runner::step(const std::vector<Piece>& pieces) {
  StepPlanDraft draft;
  draft.step = ++steps_;
  draft.groups = static_cast<int32_t>(cache_views_.size());
  injects_.clear();
  for (const Piece& piece : pieces) add(piece, draft);
  const auto any = [&](auto wanted) { return std::any_of(pieces.begin(), pieces.end(), wanted); };
  if (!any([](const Piece& p) { return !p.rope.empty(); })) draft.rope_positions.clear();
  if (!any([](const Piece& p) { return !p.span_ends.empty(); })) draft.span_ends.clear();
  if (!any([](const Piece& p) { return !p.cross_spans.empty(); })) draft.cross_spans.clear();
  std::vector<std::byte> bytes;
  draft.seal(bytes);
  TR_ASSIGN(const PlanView plan, PlanView::parse(bytes));
  TR_ASSIGN(const Batch batch, backend_.begin_step(plan, cache_views_));
  for (const Encoded& e : std::exchange(encoded_, {})) {
    model_->encode(batch, cache_views_, e.sequence, e.states);
  }
  before_();
  const Matrix logits = model_->forward(batch, cache_views_, injects_);
  after_();
  backend_.sample(batch, model_->sampling(logits));
  TR_ASSIGN(const StepResult result, backend_.finish_step(batch));
  std::vector<Scored> out;
  for (const StepToken& token : result.tokens) {
    const auto* top = result.tops.data() + token.top_begin;
    const int32_t slot = draft.sequences[static_cast<size_t>(token.sequence)].slot;
    out.push_back(
        {slot, token.top_count > 0 ? top->token : -1, token.logprob, {top, top + token.top_count}});
  }
  return out;
}

}  // namespace troupe::models::testing
