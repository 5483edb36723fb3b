// The flat step plan, its result, and the batch that ops see.
//
// One batch type serves prefill, chunked prefill, decode and verification: sequences with query
// lengths. A plan is one contiguous, pointer-free, versioned buffer, so the same bytes are shared
// in process, copied to a device in one transfer, and sent between processes.
//
// A scheduler's plans name only the blocks that a slot has not been told of yet (PlanTable::kept): a
// decode step of 256 long sequences names a dozen, not a hundred thousand. Whoever runs the steps
// remembers the rest and completes the plan (engine/slot_tables.hpp) before a backend sees it: a
// backend's plans are complete.
// Where every sequence does the same as in the step before, one token further, the plan says only that
// (StepPlanHeader::repeats), and lists the sequences whose tables have news. Whoever completes such a
// plan moves the one before on in its place, so that a backend which has seen that needs to look at
// little of this one.
//
// Invariants (checked by PlanView::parse, but for INV-PLAN-3):
//   INV-PLAN-1  rows of a sequence are contiguous and in order of sequences
//   INV-PLAN-2  kv_len counts the tokens in the cache after this step: kv_len >= row_count
//   INV-PLAN-3  a block table, once complete, covers every position in [window start, kv_len) of its
//               group
//   INV-PLAN-4  every index and range points inside its section
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.hpp"

namespace troupe {

inline constexpr uint32_t kStepPlanMagic = 0x50525431;    // "1TRP"
inline constexpr uint32_t kStepResultMagic = 0x52525431;  // "1TRR"
inline constexpr uint32_t kStepPlanVersion = 3;

// Input id of a row whose token was sampled by the step before: taken from the slot on the device.
inline constexpr int32_t kTokenFromSlot = -1;
// Input id of a row that an embedding replaces (PlanInject).
inline constexpr int32_t kTokenInjected = -2;

// The last tokens of a slot that the device remembers: bounds multi-token bad words.
inline constexpr int32_t kSlotTail = 16;

enum class Section : uint32_t {
  token_ids,         // int32 per row
  positions,         // int32 per row: place in the sequence, and in its cache
  rope_positions,    // int32 x 3 per row (time, height, width), or empty: M-RoPE
  adapters,          // int32 per row, or empty: LoRA adapter, -1 none
  modality,          // uint8 per row, or empty: 0 text, 1 vision
  sequences,         // PlanSequence
  tables,            // PlanTable: sequences x groups, sequence-major
  blocks,            // int32: the block tables, one after the other
  span_ends,         // int32 per row, or empty: exclusive end of bidirectional attention, in positions
  logit_rows,        // PlanLogitRow
  sampling,          // PlanSampling
  biases,            // PlanBias
  token_lists,       // int32: histories and bad words
  injects,           // PlanInject
  copies,            // PlanCopy: whole blocks copied before the forward pass
  encodes,           // PlanEncode: encoder rows written before the forward pass
  cross_spans,       // int32 x 2 per row, or empty: [begin, end) of the encoder rows that it sees;
                     // empty: all cross_len of its sequence. Begin -1: from 0 on, but its gated
                     // feed-forwards give nothing (before the first picture, as Mllama has it)
  count_
};
inline constexpr size_t kSectionCount = static_cast<size_t>(Section::count_);

struct PlanSequence {
  int32_t slot = 0;        // persistent row of device state: last token, tail, penalty counts
  int32_t row_begin = 0;
  int32_t row_count = 0;   // query length of this step
  int32_t kv_len = 0;      // tokens in the cache once this step has written its own
  int32_t prompt_len = 0;  // length-dependent rope scalings look at max(prompt_len, position + 1)
  int32_t cross_len = 0;   // encoder rows that cross-attention layers see; 0: none
};

// The blocks of one sequence in one cache group: `kept` of those that its slot had after the step
// before, from first_position on, then those that are listed.
struct PlanTable {
  static constexpr int32_t kUnchanged = -1;  // `kept`: the slot's table is as it was, all of it
  int32_t begin = 0;           // into Section::blocks
  int32_t count = 0;
  int32_t first_position = 0;  // of the table's first block; positions before are gone (window)
  int32_t kept = 0;            // 0: the table is complete
};

// A row whose logits are wanted: to sample the next token, to score a given one, or both.
struct PlanLogitRow {
  int32_t row = 0;
  int32_t sequence = 0;
  int32_t sampling = -1;  // into Section::sampling; -1: score only
  int32_t target = -1;    // token to give the logprob of; -1: none
  int32_t top_n = 0;      // how many most likely tokens to report; -1: not even the chosen one's
};

// How one token is drawn; the order of the stages stands in docs/kernels-cpu.md.
struct PlanSampling {
  int32_t slot = 0;
  int32_t top_k = 0;  // 0: off
  float temperature = 0.0F;  // 0: greedy
  float top_p = 1.0F;
  float min_p = 0.0F;
  float repetition_penalty = 1.0F;
  float presence_penalty = 0.0F;
  float frequency_penalty = 0.0F;
  uint64_t seed = 0;
  int32_t choice = 0;    // index of n choices: part of the Philox key
  int32_t position = 0;  // position of the drawn token: part of the Philox key
  int32_t bias_begin = 0, bias_count = 0;          // Section::biases
  int32_t bad_begin = 0, bad_count = 0;            // Section::token_lists: bad_count entries of {n, t1..tn}
  int32_t history_begin = 0, history_count = 0;    // Section::token_lists: rebuilds the slot's counts
  int32_t history_prompt = 0;  // how many of the history are prompt (repetition only)
  int32_t mask_row = -1;       // row of the grammar mask uploaded before sampling; -1: none
  int32_t reset = 0;           // 1: the slot is new: forget counts and tail, then take the history
};

struct PlanBias {
  int32_t token = 0;
  float bias = 0.0F;  // -infinity forbids
};

// Rows [row, row + count) take the embedding `id` from its row `source_row` on.
struct PlanInject {
  uint64_t id = 0;
  int32_t row = 0;
  int32_t count = 0;
  int32_t source_row = 0;
  int32_t sequence = 0;
};

// Encoder rows [row, row + count) of a sequence are the embedding `id`, from its row 0 on: what
// cross-attention sees from then on. Those of one sequence stand together and in order.
struct PlanEncode {
  uint64_t id = 0;
  int32_t sequence = 0;
  int32_t row = 0;
  int32_t count = 0;
  int32_t reserved = 0;
};

struct PlanCopy {
  int32_t group = 0;
  int32_t from = 0;
  int32_t to = 0;
};

struct StepPlanHeader {
  uint32_t magic = kStepPlanMagic;
  uint32_t version = kStepPlanVersion;
  uint64_t bytes = 0;
  uint64_t step = 0;
  int32_t groups = 0;
  int32_t rows = 0;
  int32_t max_row_count = 0;  // largest query length
  int32_t max_kv_len = 0;
  int32_t complete = 1;       // every table is listed in full
  // 0: the plan stands for itself. Else it is the plan before, whose sequences (so many) had one row
  // and one draw each, with every row one position further and its token taken from its slot. Not
  // complete: of the sections only sequences (some of them), their tables and blocks are there.
  // Complete: all is there, in the bytes where the plan before was; each table's list begins and goes
  // on where it did, but for blocks that a window has left in front and new ones behind.
  int32_t repeats = 0;
  struct Range {
    uint32_t offset = 0;  // bytes from the start of the plan, 16-byte aligned
    uint32_t count = 0;   // elements
  };
  std::array<Range, kSectionCount> sections{};
};

// What the scheduler fills; seal() lays it out flat. Reused from step to step without allocating.
struct StepPlanDraft {
  uint64_t step = 0;
  int32_t groups = 0;
  int32_t repeats = 0;  // StepPlanHeader's
  std::vector<int32_t> token_ids, positions, rope_positions, adapters, blocks, span_ends,
      token_lists, cross_spans;
  std::vector<uint8_t> modality;
  std::vector<PlanSequence> sequences;
  std::vector<PlanTable> tables;
  std::vector<PlanLogitRow> logit_rows;
  std::vector<PlanSampling> sampling;
  std::vector<PlanBias> biases;
  std::vector<PlanInject> injects;
  std::vector<PlanCopy> copies;
  std::vector<PlanEncode> encodes;

  void clear();
  void seal(std::vector<std::byte>& out) const;
  // How many tokens its result has.
  [[nodiscard]] size_t answers() const {
    return repeats > 0 ? static_cast<size_t>(repeats) : logit_rows.size();
  }
};

// Makes of a sealed plan the one that repeats it: everything but its tables.
Status advance_plan(std::span<std::byte> bytes, const StepPlanHeader& repeat);
// That in two parts: what it says of itself, and its rows, by one or more steps at once.
Status advance_header(std::span<std::byte> bytes, const StepPlanHeader& repeat);
void advance_rows(std::span<std::byte> bytes, int32_t steps);
// Brings one of its tables, a complete one, up to date in its place. False: there is no room for it.
bool advance_table(std::span<std::byte> bytes, int32_t sequence, int32_t group, const PlanTable& told,
                   std::span<const int32_t> fresh, int32_t block_tokens);

class PlanView;
// The same plan with these tables (sequences x groups) and blocks in the place of its own. Tables come
// one after the other, and may leave room for blocks between them.
void seal_with_tables(const PlanView& plan, std::span<const PlanTable> tables,
                      std::span<const int32_t> blocks, std::vector<std::byte>& out);

// A checked, typed look into a plan's bytes. Borrows them.
class PlanView {
 public:
  static Result<PlanView> parse(std::span<const std::byte> bytes);
  // The same plan, whose bytes are in another place as well.
  [[nodiscard]] PlanView at(std::span<const std::byte> copy) const;

  [[nodiscard]] const StepPlanHeader& header() const { return *header_; }
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }
  [[nodiscard]] uint64_t step() const { return header_->step; }
  [[nodiscard]] int32_t rows() const { return header_->rows; }
  [[nodiscard]] bool complete() const { return header_->complete != 0; }
  [[nodiscard]] bool repeats() const { return header_->repeats > 0; }
  [[nodiscard]] bool only_repeats() const { return repeats() && !complete(); }
  [[nodiscard]] std::span<const int32_t> token_ids() const { return get<int32_t>(Section::token_ids); }
  [[nodiscard]] std::span<const int32_t> positions() const { return get<int32_t>(Section::positions); }
  [[nodiscard]] std::span<const int32_t> rope_positions() const { return get<int32_t>(Section::rope_positions); }
  [[nodiscard]] std::span<const int32_t> adapters() const { return get<int32_t>(Section::adapters); }
  [[nodiscard]] std::span<const uint8_t> modality() const { return get<uint8_t>(Section::modality); }
  [[nodiscard]] std::span<const PlanSequence> sequences() const { return get<PlanSequence>(Section::sequences); }
  [[nodiscard]] std::span<const int32_t> blocks() const { return get<int32_t>(Section::blocks); }
  [[nodiscard]] std::span<const int32_t> span_ends() const { return get<int32_t>(Section::span_ends); }
  [[nodiscard]] std::span<const PlanLogitRow> logit_rows() const { return get<PlanLogitRow>(Section::logit_rows); }
  [[nodiscard]] std::span<const PlanSampling> sampling() const { return get<PlanSampling>(Section::sampling); }
  [[nodiscard]] std::span<const PlanBias> biases() const { return get<PlanBias>(Section::biases); }
  [[nodiscard]] std::span<const int32_t> token_lists() const { return get<int32_t>(Section::token_lists); }
  [[nodiscard]] std::span<const PlanInject> injects() const { return get<PlanInject>(Section::injects); }
  [[nodiscard]] std::span<const PlanCopy> copies() const { return get<PlanCopy>(Section::copies); }
  [[nodiscard]] std::span<const PlanEncode> encodes() const { return get<PlanEncode>(Section::encodes); }
  [[nodiscard]] std::span<const int32_t> cross_spans() const { return get<int32_t>(Section::cross_spans); }
  [[nodiscard]] const PlanTable& table(int32_t sequence, int32_t group) const {
    return get<PlanTable>(Section::tables)[static_cast<size_t>(sequence * header_->groups + group)];
  }
  [[nodiscard]] std::span<const int32_t> block_table(int32_t sequence, int32_t group) const {
    const PlanTable& t = table(sequence, group);
    return blocks().subspan(static_cast<size_t>(t.begin), static_cast<size_t>(t.count));
  }

 private:
  template <class T>
  [[nodiscard]] std::span<const T> get(Section s) const {
    const auto& r = header_->sections[static_cast<size_t>(s)];
    return {reinterpret_cast<const T*>(bytes_.data() + r.offset), r.count};
  }
  std::span<const std::byte> bytes_;
  const StepPlanHeader* header_ = nullptr;
};

// What came of one logit row.
struct StepToken {
  int32_t sequence = 0;  // index in the plan
  int32_t token = -1;    // drawn token; -1: only scored, nothing was allowed, or a logit is NaN
  float logprob = 0.0F;  // of the drawn token (or the target), as the logits came; NaN with a NaN logit
  int32_t rank = 0;      // 1: it was the most likely
  int32_t top_begin = 0, top_count = 0;
};
struct StepTop {
  int32_t token = 0;
  float logprob = 0.0F;
};

// Flat like the plan when it crosses a process; this is its form in memory.
struct StepResult {
  uint64_t step = 0;
  std::vector<StepToken> tokens;  // one per logit row, in the plan's order
  std::vector<StepTop> tops;
};

}  // namespace troupe
