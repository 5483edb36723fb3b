#include "kernels/cuda/step_plan.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>


namespace troupe::cuda {
namespace {

static_assert(sizeof(LogitRow) == sizeof(PlanLogitRow) &&
              sizeof(DrawRule) == sizeof(PlanSampling) && sizeof(TokenBias) == sizeof(PlanBias) &&
              kTail == kSlotTail);

constexpr int32_t kShareLeast = 128;
constexpr int32_t kShareFixed = 512;

// Which of a sequence's rows decode: those from `decoding` on, `together` at a time.
struct Split {
  bool prefills;
  int32_t decoding, together;
};
Split split_of(const PlanSequence& s, int32_t decode_longest, bool rows_independent) {
  if (rows_independent) {
    const int32_t past = s.kv_len - s.row_count;
    const int32_t prompt = std::clamp(s.prompt_len - past, 0, s.row_count);
    return {prompt > 0, prompt, 1};
  }
  const bool prefills = s.row_count > decode_longest;
  return {prefills, prefills ? s.row_count : 0, std::max(s.row_count, 1)};
}

int32_t round_up(int64_t x, int64_t to) {
  return static_cast<int32_t>((x + to - 1) / to * to);
}

template <class T>
void copy_in(std::byte* to, std::span<const T> from) {
  if (!from.empty()) std::memcpy(to, from.data(), from.size_bytes());
}

}  // namespace

// Positions per share: enough shares to fill the device, but none so short that its start and end
// cost more than its middle.
int32_t StepPlan::share_for(const StepShape& shape, int64_t positions) const {
  if (shape.rows_independent) return kShareFixed;
  const int64_t slots = int64_t{shape.multiprocessors} * 2;
  return std::clamp(round_up(positions * shape.kv_heads / slots, 64), kShareLeast, kDecodeShareMax);
}

bool StepPlan::may_spread(const PlanView& plan) const {
  return !rows_independent_ && counts.prefill_items == 0 && counts.rows == counts.sequences &&
         counts.decode_runs == counts.sequences && plan.header().max_kv_len <= kSpreadMost;
}

size_t StepPlan::reserve(size_t bytes) {
  const size_t begin = used_;
  used_ = (used_ + bytes + 15) / 16 * 16;
  return begin;
}

Status StepPlan::prepare(int32_t rows, int32_t sequences, int64_t blocks) {
  constexpr size_t kRow = 64, kSequence = 512;  // more than most steps need
  return staging_.grow(std::max(static_cast<size_t>(rows) * kRow +
                                    static_cast<size_t>(sequences) * kSequence +
                                    static_cast<size_t>(blocks) * sizeof(int32_t),
                                kPlanBytesLeast),
                       "a step's plan");
}

void StepPlan::lay_out(const PlanView& plan) {
  const StepCounts& c = counts;
  const auto n = [](int32_t x) { return static_cast<size_t>(x); };
  used_ = 0;
  offset_.head = reserve(sizeof(PlanHead));
  offset_.tokens = reserve(n(c.rows) * 4);
  offset_.slots = reserve(n(c.rows) * 4);
  offset_.positions = reserve(n(c.rows) * 4);
  offset_.prompts = reserve(n(c.rows) * 4);
  offset_.row_sequence = reserve(n(c.rows) * 4);
  offset_.rope_positions = reserve(c.rope_positions ? n(c.rows) * 12 : 0);
  offset_.span_ends = reserve(c.span_ends ? n(c.rows) * 4 : 0);
  offset_.modality = reserve(c.modality ? n(c.rows) * 4 : 0);
  offset_.gather_rows = reserve(n(c.logit_rows) * 4);
  offset_.cache_rows = reserve(n(c.rows) * n(c.groups) * 4);
  offset_.sequences = reserve(n(c.sequences) * n(c.groups) * sizeof(AttentionSequence));
  offset_.encoders = reserve(n(c.sequences) * n(c.groups) * sizeof(AttentionSequence));
  offset_.logit_rows = reserve(n(c.logit_rows) * sizeof(LogitRow));
  offset_.rules = reserve(n(c.rules) * sizeof(DrawRule));
  offset_.decode_count = reserve(4);
  // From here on lengths change from step to step; a decode graph reads only the first of these.
  offset_.decode = reserve(n(c.decode_items) * n(c.groups) * sizeof(DecodeWork));
  offset_.prefill = reserve(n(c.prefill_items) * sizeof(PrefillWork));
  offset_.biases = reserve(plan.biases().size_bytes());
  offset_.lists = reserve(plan.token_lists().size_bytes());
  plan_end_ = used_;
}

void StepPlan::fill_rows(const PlanView& plan) {
  copy_in(staging_.data() + offset_.tokens, plan.token_ids());
  copy_in(staging_.data() + offset_.positions, plan.positions());
  if (counts.rope_positions)
    copy_in(staging_.data() + offset_.rope_positions, plan.rope_positions());
  if (counts.span_ends) copy_in(staging_.data() + offset_.span_ends, plan.span_ends());
  for (size_t i = 0; counts.modality && i < plan.modality().size(); ++i) {
    host<int32_t>(offset_.modality)[i] = plan.modality()[i] != 0 ? 1 : 0;
  }
  int32_t index = 0;
  for (const PlanSequence& s : plan.sequences()) {
    for (int32_t r = s.row_begin; r < s.row_begin + s.row_count; ++r) {
      host<int32_t>(offset_.slots)[r] = s.slot;
      host<int32_t>(offset_.prompts)[r] = s.prompt_len;
      host<int32_t>(offset_.row_sequence)[r] = index;
    }
    ++index;
  }
}

void StepPlan::fill_groups(const PlanView& plan, std::span<KvCache* const> caches) {
  auto* sequences = host<AttentionSequence>(offset_.sequences);
  auto* encoders = host<AttentionSequence>(offset_.encoders);
  auto* rows = host<int32_t>(offset_.cache_rows);
  table_ends_.resize(static_cast<size_t>(counts.groups) * static_cast<size_t>(counts.sequences));
  for (int32_t g = 0; g < counts.groups; ++g) {
    const int32_t tokens = caches[static_cast<size_t>(g)]->spec().block_tokens;
    for (int32_t i = 0; i < counts.sequences; ++i) {
      const PlanSequence& s = plan.sequences()[static_cast<size_t>(i)];
      const PlanTable& t = plan.table(i, g);
      const auto blocks = plan.block_table(i, g);
      const auto index =
          static_cast<size_t>(g) * static_cast<size_t>(counts.sequences) + static_cast<size_t>(i);
      table_ends_[index] = t.begin + t.count;
      sequences[index] = {s.row_begin, s.row_count, s.kv_len, t.begin, t.first_position, 1};
      encoders[index] = {s.row_begin, s.row_count, s.cross_len, t.begin, 0, 0};
      for (int32_t r = s.row_begin; r < s.row_begin + s.row_count; ++r) {
        const int32_t relative = plan.positions()[static_cast<size_t>(r)] - t.first_position;
        // Tables of an encoder's group do not cover the sequence's own positions.
        const bool there = relative >= 0 && relative / tokens < t.count;
        rows[static_cast<size_t>(g) * static_cast<size_t>(counts.rows) + static_cast<size_t>(r)] =
            there ? blocks[static_cast<size_t>(relative / tokens)] * tokens + relative % tokens
                  : -1;
      }
    }
  }
}

// What decodes is listed with the longest first, since blocks take items as they become free: what
// starts last should end soon.
void StepPlan::sort_sequences(const PlanView& plan) {
  const auto all = plan.sequences();
  order_.resize(all.size());
  std::iota(order_.begin(), order_.end(), 0);
  const auto longer = [all](int32_t a, int32_t b) {
    return all[static_cast<size_t>(a)].kv_len > all[static_cast<size_t>(b)].kv_len;
  };
  if (!std::is_sorted(order_.begin(), order_.end(), longer)) {
    std::stable_sort(order_.begin(), order_.end(), longer);
  }
}

void StepPlan::fill_work(const PlanView& plan, int32_t share) {
  *host<int32_t>(offset_.decode_count) = 0;
  if (counts.groups == 0) return;  // no cache, so nothing to attend to
  const auto* sequences = host<AttentionSequence>(offset_.sequences);
  auto* decode = host<DecodeWork>(offset_.decode);
  int32_t items = 0, runs = 0;
  std::vector<PrefillWork> tiles;
  sort_sequences(plan);
  for (const int32_t i : order_) {
    const PlanSequence& s = plan.sequences()[static_cast<size_t>(i)];
    const Split split = split_of(s, counts.decode_longest, rows_independent_);
    for (int32_t t = 0; split.prefills && t * 128 < s.row_count; ++t) tiles.push_back({i, t});
    for (int32_t r = split.decoding; r < s.row_count; r += split.together, ++runs) {
      const int32_t kv_len = s.kv_len - s.row_count + r + split.together;
      const int32_t shares = (kv_len + share - 1) / share, partial = items;
      for (int32_t k = 0; k < shares; ++k, ++items) {
        for (int32_t g = 0; g < counts.groups; ++g) {
          AttentionSequence run =
              sequences[static_cast<size_t>(g) * static_cast<size_t>(counts.sequences) +
                        static_cast<size_t>(i)];
          run.row_begin += r;
          run.row_count = split.together;
          run.kv_len = kv_len;
          decode[static_cast<size_t>(items) * static_cast<size_t>(counts.groups) +
                 static_cast<size_t>(g)] = {
              run, k * share, std::min(kv_len, (k + 1) * share), k, shares, partial, runs};
        }
      }
    }
  }
  if (counts.shares_max > 1) sort_work(items);
  sort_prefill(plan, tiles);
  *host<int32_t>(offset_.decode_count) = items;
}

// Whole shares before what is left of sequences behind their last.
void StepPlan::sort_work(int32_t items) {
  const auto groups = static_cast<size_t>(counts.groups);
  auto* decode = host<DecodeWork>(offset_.decode);
  unsorted_.assign(decode, decode + static_cast<size_t>(items) * groups);
  const auto length = [&](int32_t item) {
    const DecodeWork& w = unsorted_[static_cast<size_t>(item) * groups];
    return w.end - w.begin;
  };
  order_.resize(static_cast<size_t>(items));
  std::iota(order_.begin(), order_.end(), 0);
  std::stable_sort(order_.begin(), order_.end(),
                   [&](int32_t a, int32_t b) { return length(a) > length(b); });
  for (const int32_t item : order_) {
    decode = std::copy_n(unsorted_.data() + static_cast<size_t>(item) * groups, groups, decode);
  }
}

// The longest first here as well.
void StepPlan::sort_prefill(const PlanView& plan, std::vector<PrefillWork>& tiles) {
  const auto length = [&](const PrefillWork& w) {
    const PlanSequence& s = plan.sequences()[static_cast<size_t>(w.sequence)];
    return s.kv_len - s.row_count + std::min(s.row_count, (w.tile + 1) * 128);
  };
  std::stable_sort(tiles.begin(), tiles.end(), [&](const PrefillWork& a, const PrefillWork& b) {
    return length(a) > length(b);
  });
  std::copy(tiles.begin(), tiles.end(), host<PrefillWork>(offset_.prefill));
}

void StepPlan::fill_sampling(const PlanView& plan) {
  copy_in(staging_.data() + offset_.logit_rows, plan.logit_rows());
  copy_in(staging_.data() + offset_.rules, plan.sampling());
  copy_in(staging_.data() + offset_.biases, plan.biases());
  copy_in(staging_.data() + offset_.lists, plan.token_lists());
  size_t row = 0;
  tops_max = 0;
  penalties = changes = fresh = false;
  greedy = true;
  for (const PlanLogitRow& l : plan.logit_rows()) {
    host<int32_t>(offset_.gather_rows)[row++] = l.row;
    tops_max = std::max(tops_max, l.top_n);
    greedy = greedy && l.sampling >= 0 && l.top_n < 0;
  }
  for (const PlanSampling& s : plan.sampling()) {
    const bool penalised =
        s.repetition_penalty != 1.0F || s.presence_penalty != 0.0F || s.frequency_penalty != 0.0F;
    penalties = penalties || penalised;
    fresh = fresh || s.reset != 0 || s.history_count > 0;
    greedy = greedy && s.temperature <= 0.0F;
    changes = changes || penalised || s.bias_count > 0 || s.bad_count > 0 || s.mask_row >= 0;
  }
}

Status StepPlan::build(const PlanView& plan, std::span<KvCache* const> caches,
                       const StepShape& shape) {
  StepCounts& c = counts;
  c = {};
  c.rows = plan.rows();
  c.sequences = static_cast<int32_t>(plan.sequences().size());
  c.logit_rows = static_cast<int32_t>(plan.logit_rows().size());
  c.groups = plan.header().groups;
  c.rules = static_cast<int32_t>(plan.sampling().size());
  c.lists = static_cast<int32_t>(plan.token_lists().size());
  c.rope_positions = !plan.rope_positions().empty();
  c.span_ends = !plan.span_ends().empty();
  c.modality = !plan.modality().empty();
  rows_independent_ = shape.rows_independent && !c.span_ends;
  c.decode_longest =
      c.span_ends || rows_independent_ ? 0 : std::max(kDecodeRowsMax / shape.heads_per_kv_max, 1);
  positions_ = 0;
  for (const PlanSequence& s : plan.sequences()) {
    if (s.row_count <= c.decode_longest) positions_ += s.kv_len;
    c.rows_least = std::min(c.rows_least, s.row_count);
    c.rows_longest = std::max(c.rows_longest, s.row_count);
  }
  const int32_t share = share_ = share_for(shape, positions_);
  for (const PlanSequence& s : plan.sequences()) {
    const Split split = split_of(s, c.decode_longest, rows_independent_);
    if (split.prefills) {
      c.prefill_items += (s.row_count + 127) / 128;
      c.prefills_whole = c.prefills_whole && s.kv_len == s.row_count;
    }
    for (int32_t r = split.decoding; r < s.row_count; r += split.together) {
      const int32_t shares = (s.kv_len - s.row_count + r + split.together + share - 1) / share;
      c.decode_items += shares;
      c.shares_max = std::max(c.shares_max, shares);
      c.decode_rows_max = std::max(c.decode_rows_max, split.together);
      ++c.decode_runs;
    }
  }
  c.spreads = may_spread(plan);
  lay_out(plan);
  patches_ = 0;
  block_bytes_ = plan.blocks().size_bytes();
  const size_t whole = used_ + (block_bytes_ + 15) / 16 * 16;
  TR_TRY(staging_.grow(std::max(whole, kPlanBytesLeast), "a step's plan"));
  copy_in(staging_.data() + used_, plan.blocks());
  fill_rows(plan);
  fill_groups(plan, caches);
  fill_work(plan, share);
  fill_sampling(plan);
  return ok_status();
}

Status StepPlan::place(DeviceArea& device, DeviceArea& blocks, bool& moved) {
  TR_ASSIGN(const bool plan_moved, device.grow(std::max(used_ * 2, size_t{1} << 16), "step plans"));
  TR_ASSIGN(const bool blocks_moved,
            blocks.grow(std::max(block_bytes_ * 2, size_t{1} << 16), "block tables"));
  moved = plan_moved || blocks_moved;
  at.head = device.as<PlanHead>();
  at.blocks = blocks.as<int32_t>();
  const auto put = [base = device.as<std::byte>()]<class T>(const T*& address, size_t offset,
                                                            bool there = true) {
    address = there ? reinterpret_cast<const T*>(base + offset) : nullptr;
  };
  put(at.tokens, offset_.tokens);
  put(at.slots, offset_.slots);
  put(at.positions, offset_.positions);
  put(at.prompts, offset_.prompts);
  put(at.row_sequence, offset_.row_sequence);
  put(at.rope_positions, offset_.rope_positions, counts.rope_positions);
  put(at.span_ends, offset_.span_ends, counts.span_ends);
  put(at.modality, offset_.modality, counts.modality);
  put(at.gather_rows, offset_.gather_rows);
  put(at.cache_rows, offset_.cache_rows);
  put(at.sequences, offset_.sequences);
  put(at.encoders, offset_.encoders);
  put(at.decode_count, offset_.decode_count);
  put(at.decode, offset_.decode);
  put(at.prefill, offset_.prefill);
  put(at.logit_rows, offset_.logit_rows);
  put(at.rules, offset_.rules);
  put(at.biases, offset_.biases);
  put(at.lists, offset_.lists);
  return ok_status();
}

bool StepPlan::lies_as(const StepPlan& last, const DeviceArea& device) {
  if (used_ > device.bytes()) return false;
  at = last.at;
  return true;
}

void StepPlan::seal(const StepPlan& next, const DrawTarget& target) {
  const auto pieces = [](size_t bytes) { return static_cast<uint32_t>((bytes + 15) / 16); };
  *host<PlanHead>(offset_.head) = {next.staging_.data(),         target, pieces(used_),
                                   pieces(block_bytes_),         static_cast<uint32_t>(patches_),
                                   static_cast<uint32_t>(plan_end_)};
}

Status StepPlan::upload(cudaStream_t stream) const {
  const auto copy = [stream](void* to, const void* from, size_t bytes) {
    return status_of(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream),
                     "uploading a step's plan");
  };
  TR_TRY(copy(at.head, staging_.data(), used_));
  const auto* patches = reinterpret_cast<const BlockPatch*>(staging_.data() + plan_end_);
  for (int32_t i = 0; i < patches_; ++i) {
    TR_TRY(copy(at.blocks + patches[i].index, &patches[i].block, sizeof(int32_t)));
  }
  if (block_bytes_ == 0) return ok_status();
  return copy(at.blocks, staging_.data() + used_, block_bytes_);
}

}  // namespace troupe::cuda
