#include "models/forward.hpp"

#include <algorithm>

namespace troupe::models {
namespace {

// Logits of each row, in their order: decoding, mostly.
bool predicts_every_row(const Batch& batch) {
  const auto wanted = batch.plan.logit_rows();
  if (static_cast<int64_t>(wanted.size()) != batch.rows) return false;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i].row != static_cast<int32_t>(i)) return false;
  }
  return true;
}

}  // namespace

LoadedModel::LoadedModel(std::shared_ptr<const Folder> folder, Backend& backend,
                         Communicator* communicator)
    : folder_(std::move(folder)), backend_(backend), communicator_(communicator) {}
LoadedModel::~LoadedModel() = default;

int64_t LoadedModel::vocab_share() const {
  const int64_t ranks = communicator_ == nullptr ? 1 : communicator_->size();
  return (facts().vocab + ranks - 1) / ranks;
}

SampleArgs LoadedModel::sampling(const Matrix& logits) const {
  const ModelDescription& d = folder_->description();
  return {.logits = logits, .scale = d.logit_scale, .softcap = d.logit_softcap, .grammar_mask = {}};
}

void LoadedModel::force_routing(std::vector<std::vector<int32_t>> per_layer) {
  forced_ = std::move(per_layer);
}

LoadedModel::Buffers LoadedModel::lay_out(Scratch& scratch, int64_t rows) const {
  const DType type = backend_.activation_dtype(facts().dtype);
  const auto take = [&] { return scratch.take(rows, facts().hidden, type); };
  return {take(), take(), take(), take()};
}

// Layers run one after the other and then the head, so they share what lies behind the buffers.
size_t LoadedModel::workspace_bytes(int32_t rows, int32_t logit_rows) const {
  const DType type = backend_.activation_dtype(facts().dtype);
  Scratch scratch;
  lay_out(scratch, rows);
  size_t most = 0;
  for (const PlacedLayer& layer : layers_) {
    most = std::max({most, layer.mixer->scratch_bytes(rows, type),
                     layer.ffn->scratch_bytes(rows, type), layer.mixer->encode_bytes(type)});
  }
  Scratch head;
  head.take(logit_rows, facts().hidden, type);
  head.take(logit_rows, vocab_share(), DType::f32);
  if (communicator_ != nullptr) {
    head.take(logit_rows, vocab_share() * communicator_->size(), DType::f32);
  }
  return scratch.used() + std::max(most, head.used());
}

Status LoadedModel::reserve(int32_t rows, int32_t logit_rows) {
  workspace_.reset();
  auto buffer = backend_.allocate(workspace_bytes(rows, logit_rows), "workspace");
  if (!buffer.ok()) return buffer.status();
  workspace_ = std::move(buffer).value();
  return ok_status();
}

Step LoadedModel::begin(const Batch& batch, std::span<KvCache* const> caches) const {
  TR_ASSERT(workspace_ != nullptr);  // reserve() comes before the first step
  const auto modality = batch.plan.modality();
  return {.backend = backend_,
          .batch = batch,
          .caches = caches,
          .ropes = ropes_,
          .scratch = Scratch(workspace_->data(), workspace_->bytes()),
          .activation = backend_.activation_dtype(facts().dtype),
          .vision_rows =
              std::any_of(modality.begin(), modality.end(), [](uint8_t m) { return m != 0; }),
          .forced = {}};
}

void LoadedModel::reduce(const Matrix& m) {
  if (communicator_ != nullptr) communicator_->all_reduce_sum(m);
}

void LoadedModel::embed(Step& step, const Buffers& b, std::span<const Matrix> injects) {
  const int64_t rank = communicator_ == nullptr ? 0 : communicator_->rank();
  const int64_t ranks = communicator_ == nullptr ? 1 : communicator_->size();
  const int64_t rows = folder_->description().embedding.rows;  // may be more than are predicted
  const int64_t each = (rows + ranks - 1) / ranks;
  backend_.embed(step.batch, {.table = embedding_,
                              .first_token = static_cast<int32_t>(rank * each),
                              .scale = folder_->description().embedding_scale,
                              .output = b.residual});
  reduce(b.residual);
  if (!injects.empty()) backend_.inject(step.batch, {.sources = injects, .output = b.residual});
  if (embedding_norm_) embedding_norm_.run(backend_, b.residual, {}, b.residual);
}

void LoadedModel::run_branch(Step& step, Sublayer& branch, const Matrix& input,
                             const Matrix& output) {
  const size_t mark = step.scratch.used();
  branch.run(step, input, output);
  step.scratch.rewind(mark);
}

// The sum of a branch into the residual is left to the next norm, which does both in one pass:
// between layers `branch` is pending.
void LoadedModel::run_layer(Step& step, const Buffers& b, PlacedLayer& layer, bool first) {
  if (first) {
    layer.norm.run(backend_, b.residual, {}, b.normed);
  } else {
    layer.norm.run(backend_, b.branch, b.residual, b.normed);
  }
  if (layer.residual == Residual::parallel) {
    run_branch(step, *layer.mixer, b.normed, b.branch);
    if (layer.ffn_norm) layer.ffn_norm.run(backend_, b.residual, {}, b.normed);
    run_branch(step, *layer.ffn, b.normed, b.second);
    backend_.add({.input = b.second, .addend = b.branch, .scale = 1.0F, .output = b.branch});
    reduce(b.branch);
    return;
  }
  keep_norm(layer, b);
  run_branch(step, *layer.mixer, b.normed, b.branch);
  reduce(b.branch);
  if (layer.post_norm) layer.post_norm.run(backend_, b.branch, {}, b.branch);
  gate(b, layer.mixer_gate);
}

// What follows a layer's mixer, for all rows or for those that are left of them.
void LoadedModel::run_feed_forward(Step& step, const Buffers& b, PlacedLayer& layer) {
  if (layer.residual == Residual::parallel) return;
  layer.ffn_norm.run(backend_, b.branch, b.residual, b.normed);
  keep_norm(layer, b);
  Matrix input = b.normed;
  if (layer.cross && !seeing_.empty()) {  // without biases, a feed-forward of zeros is zero
    input = b.second;
    backend_.mix_rows({.inputs = {&b.normed, 1}, .rows = seeing_, .output = input});
  }
  run_branch(step, *layer.ffn, input, b.branch);
  reduce(b.branch);
  if (layer.post_ffn_norm) layer.post_ffn_norm.run(backend_, b.branch, {}, b.branch);
  gate(b, layer.ffn_gate);
}

void LoadedModel::gate(const Buffers& b, float scale) {
  if (scale == 1.0F) return;
  backend_.add({.input = b.branch, .addend = {}, .scale = scale, .output = b.branch});
}

void LoadedModel::keep_norm(const PlacedLayer& layer, const Buffers& b) {
  if (layer.residual != Residual::from_norm) return;
  backend_.add({.input = b.normed, .addend = {}, .scale = 1.0F, .output = b.residual});
}

// Whether rows that nobody predicts from may be left behind after the last mixer: what comes then
// looks at each row by itself.
bool LoadedModel::may_narrow(const Step& step) const {
  if (layers_.empty() || !forced_.empty() || step.vision_rows) return false;
  const auto wanted = static_cast<int64_t>(step.batch.plan.logit_rows().size());
  const PlacedLayer& last = layers_.back();
  return wanted < step.batch.rows && last.residual != Residual::parallel && !last.cross;
}

// The pending sum of the rows that logits are wanted of. Of a prompt of thousands that is one.
LoadedModel::Buffers LoadedModel::narrow(Step& step, const Buffers& b) {
  const auto rows = static_cast<int64_t>(step.batch.plan.logit_rows().size());
  const Buffers few = {b.normed.first_rows(rows), b.residual.first_rows(rows),
                       b.second.first_rows(rows), b.branch.first_rows(rows)};
  if (rows == 0) return few;
  backend_.gather(step.batch, {.input = b.residual, .output = few.residual});
  backend_.gather(step.batch, {.input = b.branch, .output = few.branch});
  return few;
}

bool LoadedModel::crosses() const {
  return std::any_of(layers_.begin(), layers_.end(), [](const PlacedLayer& l) { return l.cross; });
}

bool LoadedModel::find_seeing(const PlanView& plan) {
  const auto spans = plan.cross_spans();
  bool some = false, all = true;
  seeing_.assign(static_cast<size_t>(plan.rows()), -1);
  for (const PlanSequence& s : plan.sequences()) {
    for (int32_t row = s.row_begin; row < s.row_begin + s.row_count; ++row) {
      const auto r = static_cast<size_t>(row);
      const bool attends = s.cross_len > 0 && (spans.empty() || spans[2 * r] < spans[2 * r + 1]);
      const bool sees = attends && (spans.empty() || spans[2 * r] >= 0);
      if (sees) seeing_[r] = row;
      some = some || attends;
      all = all && sees;
    }
  }
  if (all) seeing_.clear();
  return some;
}

// Returns what the head reads: normed rows, all of the batch or those that logits are wanted of.
Matrix LoadedModel::run_layers(Step& step, const Buffers& all) {
  const bool encoded = crosses() && find_seeing(step.batch.plan);
  const bool narrows = may_narrow(step);
  Buffers b = all;
  bool first = true;
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (layers_[i].cross && !encoded) continue;  // a gated layer without an image is not there
    step.forced =
        i < forced_.size() ? std::span<const int32_t>(forced_[i]) : std::span<const int32_t>();
    run_layer(step, b, layers_[i], first);
    first = false;
    if (narrows && i + 1 == layers_.size()) b = narrow(step, b);
    if (b.branch.rows > 0) run_feed_forward(step, b, layers_[i]);
  }
  if (b.branch.rows == 0) return b.normed;
  if (first) {
    final_norm_.run(backend_, b.residual, {}, b.normed);
  } else {
    final_norm_.run(backend_, b.branch, b.residual, b.normed);
  }
  return b.normed;
}

Matrix LoadedModel::run_head(Step& step, const Matrix& normed) {
  const auto wanted = step.batch.plan.logit_rows();
  const auto rows = static_cast<int64_t>(wanted.size());
  if (rows == 0) return {nullptr, DType::f32, 0, facts().vocab, facts().vocab};
  Matrix gathered = step.scratch.take(rows, facts().hidden, step.activation);
  if (normed.rows < step.batch.rows || predicts_every_row(step.batch)) {
    gathered = normed;
  } else {
    backend_.gather(step.batch, {.input = normed, .output = gathered});
  }
  const Matrix share = step.scratch.take(rows, vocab_share(), DType::f32);
  const int64_t mine = head_.text.out;
  if (mine > 0) {
    backend_.linear(step.batch,
                    {.input = gathered, .weight = &head_.text, .output = share.columns(0, mine)});
  }
  if (communicator_ == nullptr) return share;
  const Matrix all = step.scratch.take(rows, vocab_share() * communicator_->size(), DType::f32);
  communicator_->all_gather_columns(share, all);
  return all.columns(0, facts().vocab);  // the last rank's share may be padded
}

void LoadedModel::encode(const Batch& batch, std::span<KvCache* const> caches, int32_t sequence,
                         const Matrix& states) {
  Step step = begin(batch, caches);
  for (PlacedLayer& layer : layers_) {
    step.scratch.rewind(0);
    if (layer.cross) layer.mixer->encode(step, sequence, states);
  }
}

Matrix LoadedModel::forward(const Batch& batch, std::span<KvCache* const> caches,
                            std::span<const Matrix> injects) {
  Step step = begin(batch, caches);
  const Buffers b = lay_out(step.scratch, batch.rows);
  // Pure decoding repeats its shape step after step: worth recording where a backend can.
  const auto logit_rows = batch.plan.logit_rows().size();
  const bool decode = batch.rows >= batch.sequences && batch.plan.header().max_row_count == 1 &&
                      injects.empty() && !step.vision_rows && communicator_ == nullptr &&
                      forced_.empty() && !crosses();
  const uint64_t key = (static_cast<uint64_t>(batch.rows) << 32U) |
                       (predicts_every_row(batch) ? uint64_t{1} << 31U : 0) | logit_rows;
  const Scratch before = step.scratch;
  if (!decode || !backend_.replay(batch, key)) {
    if (decode) backend_.record(batch, key);
    embed(step, b, injects);
    const Matrix logits = run_head(step, run_layers(step, b));
    if (decode) backend_.end_record();
    return logits;
  }
  step.scratch = before;  // the recorded ops wrote where these would have
  step.scratch.take(static_cast<int64_t>(logit_rows), facts().hidden, step.activation);
  const Matrix logits =
      step.scratch.take(static_cast<int64_t>(logit_rows), vocab_share(), DType::f32);
  return logits;
}

}  // namespace troupe::models
