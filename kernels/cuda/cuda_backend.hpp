// One CUDA device as a Backend. All work goes to one stream, in order.
//
// A step's plan is rewritten for the kernels (step_plan.hpp) and uploaded before its first op.
// Decode passes are recorded into graphs the second time a shape is seen, and replayed from then on
// (step_graphs.cpp): such a step is one launch, which fetches the plan, computes, and draws into the
// host's memory. Failures of ops are kept and come back from finish_step().
//
// linear() keeps a product whose gate a following gated_activation() can take along, or whose parts
// a following norm() can add up (norm_product.cpp), and the head's when its likeliest tokens are all
// that sample() will ask for; any other op starts it first. The product's own output is then never
// written. norm() of a query's and a key's heads waits for rope_write(), which can take it along, and
// experts() for an expert that all rows share (expert_ops.cpp).
#pragma once

#include <array>
#include <chrono>
#include <compare>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "kernels/backend.hpp"
#include "kernels/cuda/cublaslt.hpp"
#include "kernels/cuda/device_memory.hpp"
#include "kernels/cuda/elementwise.hpp"
#include "kernels/cuda/experts.hpp"
#include "kernels/cuda/gated_gemm.hpp"
#include "kernels/cuda/likeliest_gemm.hpp"
#include "kernels/cuda/sampling.hpp"
#include "kernels/cuda/skinny_gemm.hpp"
#include "kernels/cuda/slim_gemm.hpp"
#include "kernels/cuda/slim_store.hpp"
#include "kernels/cuda/step_plan.hpp"
#include "kernels/cuda/step_results.hpp"
#include "kernels/cuda/wide_gemm.hpp"
#include "kernels/device_account.hpp"
#include "kernels/packed_weights.hpp"

namespace troupe::cuda {

// Up to so many rows the ways to multiply are timed for every few row counts (tuning.cpp).
constexpr int64_t kRowsTimed = 512;

// What takes many rows: a kernel of our own and how it is cut, or cuBLASLt; none: what the rule from
// shapes says, skinny_gemm or cuBLASLt.
struct ByCublaslt {};
using LargeCut = std::variant<std::monostate, ByCublaslt, WideCut, GatedTile, LikeliestTile>;
// How a product is cut whose parts the norm behind it adds up.
using ApartCut = std::variant<SkinnyCut, SlimCut>;

class CudaBackend final : public Backend, public DeviceAccount, public PackedWeights {
 public:
  static Result<std::unique_ptr<Backend>> open(int32_t device);
  ~CudaBackend() override;

  [[nodiscard]] const DeviceInfo& info() const override;  // memory_free is read anew
  [[nodiscard]] DType activation_dtype(DType weights) const override { return weights; }

  Result<std::unique_ptr<DeviceBuffer>> allocate(size_t bytes, std::string_view what) override;
  Status upload(void* device, const void* host, size_t bytes) override;
  Status download(void* host, const void* device, size_t bytes) override;
  Result<LinearWeight> place(const LinearWeight& host,
                             std::vector<std::unique_ptr<DeviceBuffer>>& arena) override;
  Result<Matrix> place(const Matrix& host,
                       std::vector<std::unique_ptr<DeviceBuffer>>& arena) override;
  Result<std::unique_ptr<KvCache>> create_cache(const KvCacheSpec& spec) override;
  [[nodiscard]] size_t cache_block_bytes(const KvCacheSpec& spec) const override;
  void keep_rows_independent() override { rows_independent_ = true; }
  Status reserve_steps(int32_t slots, int32_t rows_max, int32_t logit_rows_max,
                       int32_t vocab) override;

  Result<Batch> begin_step(const PlanView& plan, std::span<KvCache* const> caches) override;
  bool repeat_step(const PlanView& plan, std::span<KvCache* const> caches, Batch& batch) override;
  bool replay(const Batch& batch, uint64_t shape_key) override;
  void record(const Batch& batch, uint64_t shape_key) override;
  void end_record() override;
  void sample(const Batch& batch, const SampleArgs& args) override;
  Result<StepResult> finish_step(const Batch& batch) override;
  void reuse(StepResult&& read) override { spare_ = std::move(read); }
  Status synchronize() override;

  [[nodiscard]] std::vector<MemoryShare> memory_shares() const override;
  [[nodiscard]] int64_t waited_ns() const override { return waited_ns_; }
  [[nodiscard]] int64_t recorded_ns() const override { return recorded_ns_; }
  void keep_weights_plain() override { packs_weights_ = false; }
  void leave_free(size_t bytes) override { free_for_others_ = bytes; }

  void embed(const Batch& batch, const EmbedArgs& args) override;
  void inject(const Batch& batch, const InjectArgs& args) override;
  void norm(const NormArgs& args) override;
  void add(const AddArgs& args) override;
  void scale_columns(const ScaleColumnsArgs& args) override;
  void mix_rows(const MixRowsArgs& args) override;
  void linear(const Batch& batch, const LinearArgs& args) override;
  void head_linear(const HeadLinearArgs& args) override;
  void rope_write(const Batch& batch, const RopeWriteArgs& args) override;
  void attention(const Batch& batch, const AttentionArgs& args) override;
  void cross_write(const Batch& batch, const CrossWriteArgs& args) override;
  void packed_attention(const PackedAttentionArgs& args) override;
  void gated_activation(const ActivationArgs& args) override;
  void activation(const ActivationArgs& args) override;
  void experts(const Batch& batch, const ExpertsArgs& args) override;
  void gather(const Batch& batch, const GatherArgs& args) override;

 private:
  // Two steps may be in flight; a third slot lets the next be written while both are.
  static constexpr uint32_t kRing = 3;
  struct InFlight {
    const std::byte* of = nullptr;  // the caller's plan, known again when it repeats
    uint64_t step = 0;
    std::vector<std::byte> plan_bytes;  // that plan, if it did not: the caller's may go away
    StepPlan plan;
    PinnedArea masks;
    StepResults results;
    cudaEvent_t done = nullptr;
    int32_t tops_stride = 0;
    bool sampled = false;
    bool tells = false;  // drawn by the graph that its pass was: its rows say when they are there
    cudaGraphExec_t graph = nullptr;  // that one
    bool open = false;  // begun and not finished
  };
  struct Graph {
    int32_t seen = 0;
    cudaGraphExec_t exec = nullptr;
    bool draws = false;  // its tokens as well
  };

  struct ProductShape {
    int64_t n, k;
    DType dtype;
    bool bias, gated;
    auto operator<=>(const ProductShape&) const = default;
  };

  // What timing found for a slim weight (slim_product.cpp).
  struct SlimChoice {
    SlimCut cut;  // strips 0: the plain weight is as quick
    bool apart = false;  // its parts are left to the norm behind it, where there is one
  };

  struct Bench;
  struct Layer;
  struct Noise;
  struct Way;

  CudaBackend() = default;
  Status start(int32_t device);
  void use() const;  // makes this device the thread's
  void check(cudaError_t error, const char* what);
  void fail(Status status);
  void drop_graphs();
  template <class Look>
  cudaError_t wait_until(const Look& look);
  cudaError_t wait_for_rows(StepResults& results);
  void keep_at_hand() const;
  Status grow(DeviceArea& area, size_t bytes, std::string_view what, bool zeroed = false);
  [[nodiscard]] const StepPlan& plan_of(const Batch& batch) const { return ring_[batch.ring].plan; }
  Status check_plan(const PlanView& plan, std::span<KvCache* const> caches) const;
  uint64_t graph_key(const Batch& batch, uint64_t shape_key) const;
  bool finish_recording();
  void start_pass();  // that a graph is
  void launch_graph(cudaGraphExec_t graph, InFlight& f);
  [[nodiscard]] StepShape step_shape(std::span<KvCache* const> caches) const;
  static bool follows(const InFlight& last, const PlanView& given);
  void open_slot(const PlanView& given);
  [[nodiscard]] Batch batch_of(const PlanView& plan, uint32_t index) const;
  void draw(InFlight& f, const SampleArgs& args);

  void flush();  // starts what was put off: a pass that a graph is, the plan's upload, a product
  void start_pass_or_upload();  // all of that but a product
  void start_waiting();  // products, norms or experts that wait for what follows
  bool waits_for(const Matrix& output) const;
  bool may_gate(const LinearArgs& args) const;
  bool may_leave_parts(const LinearArgs& args) const;
  bool may_draw(const StepPlan& plan, const LinearArgs& args) const;
  GemmOperands likeliest_of(const LinearArgs& args) const;
  cudaError_t draw_from_product(const Sampling& sampling);
  void run_norm(const NormArgs& args);
  bool put_off(const NormArgs& args);
  bool take_norms(RopeWrite& to);  // that were put off
  void product(const LinearPart& weight, const Matrix& input, const Matrix& output);
  [[nodiscard]] bool takes_skinny(const SkinnyGemm& gemm) const;
  cudaError_t run_skinny(SkinnyGemm gemm);
  [[nodiscard]] LargeCut large_cut_of(const GemmOperands& gemm) const;
  static bool is_ours(const LargeCut& cut) {
    return std::holds_alternative<WideCut>(cut) || std::holds_alternative<GatedTile>(cut) ||
           std::holds_alternative<LikeliestTile>(cut);
  }
  cudaError_t run_large(const GemmOperands& gemm, const LargeCut& cut);
  // None: it is better written whole.
  [[nodiscard]] std::optional<ApartCut> apart_cut_of(const GemmOperands& gemm) const;
  static int parts_of(const ApartCut& cut) {
    return std::visit([](const auto& c) { return c.parts; }, cut);
  }
  [[nodiscard]] bool norm_takes_waiting(const NormArgs& args) const;
  cudaError_t leave_parts(const GemmOperands& gemm, const ApartCut& cut);
  std::unique_ptr<DeviceBuffer> watched(const LinearPart& part,
                                        std::unique_ptr<DeviceBuffer> values);
  Status pack_weights();
  void give_idle_copies_back();
  // Null: another way is quicker, or the weight has no slim copy.
  [[nodiscard]] const SlimChoice* slim_choice_of(const GemmOperands& gemm) const;
  cudaError_t run_slim(const GemmOperands& gemm, const SlimChoice& choice);
  [[nodiscard]] GemmOperands operands_of(const LinearPart& weight, const Matrix& input,
                                         const Matrix& output) const;
  [[nodiscard]] GemmOperands operands_of(const Bench& bench) const;
  bool attend_latent(const Batch& batch, const AttentionArgs& args, const AttentionShape& shape);
  bool attend_packed(const PackedAttentionArgs& args);
  void attend_plain(const Batch& batch, const AttentionArgs& args, int32_t rows_above);
  Result<const ExpertWeights*> expert_table(const ExpertsArgs& args);
  // Experts that wait for one that all rows share: its two products, its gate between them and the
  // sum of both, op by op.
  struct Mixture {
    ExpertsArgs routed;
    std::optional<LinearArgs> up;
    std::optional<ActivationArgs> gate;
    std::optional<LinearArgs> down;
  };
  Status describe(const ExpertsArgs& args, ExpertsWork& work);
  static void share(ExpertsWork& work, const LinearPart& up, const LinearPart& down);
  void run_experts(const Mixture& mixture);
  bool joins_mixture(const LinearArgs& args);
  bool joins_mixture(const ActivationArgs& args);
  bool joins_mixture(const AddArgs& args);
  void start_mixture();
  // Of all rows; may wait to be drawn from, where a plan says of what.
  void whole_linear(const LinearArgs& args, const StepPlan* plan);
  Status upload_rows(void* device, const Matrix& host);
  void remember_product(const LinearPart& part);
  [[nodiscard]] const SkinnyCut* cut_of(const SkinnyGemm& gemm) const;
  // Ways of a product on memory of its own, timed against each other (tuning_ways.cpp).
  bool by_cublaslt(const Bench& bench, const void* weight);  // with the gate that stays for another
  bool by_rule(const Bench& bench, const void* weight);  // as a step does where nothing is chosen
  [[nodiscard]] bool cut_fits(const Bench& bench, const LargeCut& cut) const;
  using Ways = std::vector<Way>;
  Ways ways_of_few_rows(Bench& bench, double others_ms);
  Ways ways_before_norm(Bench& bench);
  Ways ways_of_many_rows(Bench& bench);
  static double keep_quickest(const Bench& bench, const Ways& ways,
                              const std::vector<double>& times, double margin);
  static std::vector<double> race_alone(Bench& bench, const Ways& ways, const RaceRules& rules);
  static double settle_alone(Bench& bench, const Ways& ways);
  double settle_in_layers(Bench& bench, const Ways& ways);
  static Ways heat(Bench& bench, Ways ways);
  // The same in a layer (tuning_layer.cpp).
  bool enter_product(Layer& layer, size_t place);
  bool as_chosen(const Bench& bench, const void* weight);
  bool run_layers(Bench& bench, const Way& way);
  std::vector<double> race_in_layers(Bench& bench, const Ways& ways);
  // Slim weights, against what is chosen without them (tuning_slim.cpp).
  Status find_slims(Bench& bench);
  [[nodiscard]] GemmOperands operands_at(const Bench& bench, const void* weight) const;
  Ways ways_of_slim(Bench& bench);
  void tune_slim(Bench& bench);
  void tune_slim_head(Bench& bench);
  Status go_first();
  using Benches = std::vector<std::unique_ptr<Bench>>;
  Status tune_cublaslt(Bench& bench);
  void tune_few_rows(Bench& bench);
  static bool feeds_norm(const Bench& bench);
  void tune_many_rows(Bench& bench);
  Status tune_rows(const Benches& all, int64_t rows, void (CudaBackend::*ways)(Bench&));
  Status load_guesses(const Bench& bench);
  void tune_prompts(Bench& bench);
  Status tune_tower(Bench& bench);
  Status tune_steps(const Benches& all);
  [[nodiscard]] Noise noise_for(const std::vector<ProductShape>& shapes) const;
  Status make_noise(Noise& noise);
  Benches benches_of(const std::vector<ProductShape>& shapes, const Noise& noise) const;
  [[nodiscard]] size_t timing_bytes(const std::vector<ProductShape>& shapes) const;
  Status tune_products();

  mutable DeviceInfo info_;
  bool decodes_ = false;  // a cache was asked for, as for a language model: few rows will come
  bool goes_first_ = false;  // its stream has the highest priority
  bool rows_independent_ = false;  // deterministic mode: one way to compute a row, batch or not
  int32_t device_ = 0, multiprocessors_ = 0, major_ = 0;
  size_t shared_max_ = 0;  // bytes that a block may have
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<CublasLt> lt_;
  DeviceArea gemm_workspace_, partials_, counters_, attention_partials_, attention_counters_;
  DeviceArea device_plan_, device_blocks_, device_masks_, changed_, selected_,
      expert_work_, packed_, mixed_;
  std::vector<int32_t> packed_ends_;  // of the items whose lists packed_ holds for tensor cores
  DeviceArea last_tokens_, tails_, tail_counts_, counts_, greedy_rows_;
  PinnedArea loading_[2];
  cudaEvent_t loaded_[2] = {};
  std::array<InFlight, kRing> ring_;
  uint32_t next_ = 0;
  const StepPlan* unplaced_ = nullptr;  // of the step that has begun, until its first op
  const void* plan_next_ = nullptr;  // PlanHead::next of the plan that the device has by then
  int64_t cache_blocks_ = 0;  // of the caches that the next steps will have
  size_t cache_layers_ = 0;  // of all caches so far
  int32_t slots_ = 0, rows_max_ = 0, logit_rows_max_ = 0, vocab_ = 0, heads_per_kv_ = 1,
          latent_heads_ = 0;
  std::unordered_map<uint64_t, Graph> graphs_;
  Graph* recording_ = nullptr;
  Graph* ready_ = nullptr;  // a pass that waits for its drawing; recording_, or recorded
  InFlight* ready_step_ = nullptr;  // whose pass it is
  std::chrono::steady_clock::time_point recording_since_;
  int64_t graph_bytes_ = 0;  // of device memory that recorded graphs took
  int64_t recorded_ns_ = 0, waited_ns_ = 0;
  std::unordered_map<uint64_t, std::unique_ptr<DeviceBuffer>> expert_tables_;
  // What timing found best: by n, k and what becomes of the sums, then by rows at most.
  using ProductKey = std::tuple<int64_t, int64_t, SumsTo>;
  std::map<ProductKey, std::map<int64_t, SkinnyCut>> cuts_;
  std::map<ProductKey, std::map<int64_t, LargeCut>> larges_;
  std::map<std::tuple<int, int, int>, SkinnyCut> aparts_;  // by n, k and rows at most
  std::map<ProductKey, std::map<int64_t, SlimChoice>> slim_choices_;
  const std::shared_ptr<SlimStore> slims_ = std::make_shared<SlimStore>();  // outlived by weights
  bool packs_weights_ = true;
  size_t free_for_others_ = 0;  // of device memory, which packed weights leave
  std::vector<ProductShape> products_;  // placed since products were last tuned, in that order
  StepResult spare_;  // finish_step() fills it again
  std::optional<LinearArgs> waiting_;
  std::optional<Mixture> mixture_;
  std::vector<NormArgs> norms_;  // of queries' and keys' heads, which rope_write() may take along
  // What the last rope_write() wrote into the cache, until any other op: attention may read it
  // there.
  std::optional<RopeWriteArgs> written_;
  Status failure_;
};

}  // namespace troupe::cuda
