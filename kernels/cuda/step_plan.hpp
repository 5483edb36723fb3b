// A step's plan in the form kernels read: row arrays, sequences and work lists at addresses that
// depend only on the counts of rows, sequences and logit rows, so that a recorded graph finds the
// next step's plan where it found the last one's. Written to pinned memory; in front of a graph a
// kernel fetches it (plan_fetch.hpp), else it is copied. Block tables, whose length changes from step
// to step, lie by themselves and stay there: a plan that repeats the one before is made of that, and
// brings only the blocks that are new.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "kernels/backend.hpp"
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/device_memory.hpp"
#include "kernels/cuda/plan_fetch.hpp"
#include "kernels/cuda/sampling.hpp"

namespace troupe::cuda {

// Sequences whose query heads fit one matrix instruction decode; longer ones prefill.
struct StepCounts {
  int32_t rows = 0, sequences = 0, logit_rows = 0, groups = 0, rules = 0, lists = 0;
  int32_t decode_items = 0;  // the same in every group
  int32_t decode_runs = 0;  // rows that decode together: a sequence's, or single ones
  int32_t decode_rows_max = 0;  // longest query among decoding sequences
  int32_t shares_max = 1;
  int32_t prefill_items = 0;
  bool prefills_whole = true;  // no prefilling sequence has a past
  int32_t decode_longest = 0;  // sequences with at most so many rows decode
  int32_t rows_least = INT32_MAX, rows_longest = 0;  // of any sequence
  bool spreads = false;  // nothing but sequences of one row that are not long
  bool rope_positions = false, span_ends = false, modality = false;
};

// Device addresses of a step's arrays.
struct StepAddresses {
  PlanHead* head = nullptr;
  const int32_t* tokens = nullptr;
  const int32_t* slots = nullptr;
  const int32_t* positions = nullptr;
  const int32_t* prompts = nullptr;
  const int32_t* row_sequence = nullptr;
  const int32_t* rope_positions = nullptr;
  const int32_t* span_ends = nullptr;
  const int32_t* modality = nullptr;
  const int32_t* gather_rows = nullptr;
  const int32_t* cache_rows = nullptr;  // groups x rows
  const AttentionSequence* sequences = nullptr;  // groups x sequences
  const AttentionSequence* encoders = nullptr;  // the same, seeing encoder rows
  const int32_t* decode_count = nullptr;
  const DecodeWork* decode = nullptr;  // items x groups
  const PrefillWork* prefill = nullptr;
  const LogitRow* logit_rows = nullptr;
  const DrawRule* rules = nullptr;
  const TokenBias* biases = nullptr;
  const int32_t* lists = nullptr;
  int32_t* blocks = nullptr;
};

struct StepShape {
  int32_t heads_per_kv_max = 1;  // of any attention seen so far: bounds the rows that decode
  int32_t kv_heads = 1;
  int32_t multiprocessors = 1;
  // What becomes of a row depends on its own past alone: rows of a prompt prefill, all others
  // decode one by one, in shares of one length.
  bool rows_independent = false;
};

class StepPlan {
 public:
  // Makes room for steps of so many rows: memory that grows later waits for the device.
  Status prepare(int32_t rows, int32_t sequences, int64_t blocks);
  Status build(const PlanView& plan, std::span<KvCache* const> caches, const StepShape& shape);
  // The same for a plan that repeats the one `last` was made of; looks at its header and tables, and
  // knows the rows from `last`. False: it must be built.
  bool repeat(const StepPlan& last, const PlanView& plan, std::span<KvCache* const> caches,
              const StepShape& shape);
  // Says where everything will lie once it has been brought there; `moved`: not where it last did.
  Status place(DeviceArea& device, DeviceArea& blocks, bool& moved);
  // Whether one that repeats `last` lies where that does, and may: place() would move nothing.
  [[nodiscard]] bool lies_as(const StepPlan& last, const DeviceArea& device);
  // Completes the head.
  void seal(const StepPlan& next, const DrawTarget& target);
  // Brings it, as copies: whatever is launched behind them may read it at once.
  Status upload(cudaStream_t stream) const;

  [[nodiscard]] const std::byte* staged() const { return staging_.data(); }
  [[nodiscard]] const PlanHead& head() const {
    return *reinterpret_cast<const PlanHead*>(staging_.data());
  }
  [[nodiscard]] std::span<const LogitRow> logit_rows() const {
    return {reinterpret_cast<const LogitRow*>(staging_.data() + offset_.logit_rows),
            static_cast<size_t>(counts.logit_rows)};
  }
  // Its tokens can be drawn by kernels that a graph recorded: nothing but the likeliest token, or
  // one by a row's own rule, of every row.
  [[nodiscard]] bool draws_alike() const {
    return counts.logit_rows > 0 && counts.rules == counts.logit_rows && !fresh && !changes &&
           tops_max <= 0;
  }

  // Nothing is asked of any logit row but its likeliest token.
  [[nodiscard]] bool draws_greedily() const { return greedy && !changes; }

  StepCounts counts;
  StepAddresses at;
  int32_t tops_max = 0;
  bool penalties = false, changes = false;
  bool fresh = false;  // some rule resets its slot or brings a history
  bool greedy = false;  // every logit row is drawn greedily, with nothing reported

 private:
  size_t reserve(size_t bytes);
  PinnedArea staging_;  // head, plan, patches, block tables
  size_t used_ = 0, block_bytes_ = 0;
  size_t plan_end_ = 0;  // where patches begin
  int32_t patches_ = 0;
  bool rows_independent_ = false;
  int32_t share_ = 0;  // positions at most that one item of the work list covers
  int64_t positions_ = 0;  // that sequences which decode attend to
  std::vector<int32_t> table_ends_;  // groups x sequences: so far the device knows the tables
  std::vector<int32_t> order_;  // of the sequences in the work list, or of its items
  std::vector<DecodeWork> unsorted_;
  struct Offsets {
    size_t head, tokens, slots, positions, prompts, row_sequence, rope_positions, span_ends, modality,
        gather_rows, cache_rows, sequences, encoders, decode_count, decode, prefill, logit_rows,
        rules, biases, lists;
  } offset_ = {};
  void lay_out(const PlanView& plan);
  void fill_rows(const PlanView& plan);
  void fill_groups(const PlanView& plan, std::span<KvCache* const> caches);
  void sort_sequences(const PlanView& plan);
  void fill_work(const PlanView& plan, int32_t share);
  void sort_work(int32_t items);
  void sort_prefill(const PlanView& plan, std::vector<PrefillWork>& tiles);
  void fill_sampling(const PlanView& plan);
  void take_form(const StepPlan& last);
  [[nodiscard]] int32_t share_for(const StepShape& shape, int64_t positions) const;
  [[nodiscard]] bool begins_share(int32_t share) const;
  [[nodiscard]] bool may_spread(const PlanView& plan) const;
  bool repeat_tables(const PlanView& plan, int32_t group, const KvCacheSpec& cache);
  template <class T>
  T* host(size_t offset) {
    return reinterpret_cast<T*>(staging_.data() + offset);
  }
};

}  // namespace troupe::cuda
