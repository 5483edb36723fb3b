// The op interface: all that a device must be able to do. One Backend is one device (or one virtual
// slice of a CPU); it is driven by one thread, the device's executor.
//
// Ops are enqueued in order on the device's compute stream and return at once; a CPU may simply run
// them. An op's failure is sticky and comes back from finish_step(). Arguments are views; wrong
// shapes are a programmer's error. Activations are in info().activation_dtype(weights' dtype); sums
// are accumulated in f32. Each op has a plain definition in kernels/cpu/plain/, and
// kernels/ops_suite/ holds every backend against it.
#pragma once

#include <cstring>
#include <memory>
#include <span>
#include <string>

#include "base/status.hpp"
#include "kernels/batch.hpp"
#include "kernels/tensor.hpp"

namespace troupe {

inline constexpr uint32_t kBackendInterface = 4;  // raised whenever this header changes meaning

struct DeviceInfo {
  std::string name;          // "cpu:0", "cuda:1"
  std::string description;   // for people: model, cores or multiprocessors
  uint64_t memory_total = 0;
  uint64_t memory_free = 0;  // at the time of info(): what is placed already is not in it
  bool unified_memory = false;  // device memory is host memory: weights can stay mapped
  int32_t threads = 0;
};

// Device memory with an owner. `what` names it in the memory plan.
class DeviceBuffer {
 public:
  virtual ~DeviceBuffer() = default;
  [[nodiscard]] virtual void* data() const = 0;
  [[nodiscard]] virtual size_t bytes() const = 0;
  // Copies bytes [begin, begin + count) to the host, as the last synchronize() left them; the one
  // call that any thread may make. Memory that the host can read need not say more than this.
  virtual Status read(void* host, size_t begin, size_t count) const {
    std::memcpy(host, static_cast<const std::byte*>(data()) + begin, count);
    return ok_status();
  }
};

// One cache group: layers that share block tables. The layout inside a block is the backend's own.
struct KvCacheSpec {
  int32_t layers = 0;
  int32_t kv_heads = 0;
  int32_t key_dim = 0;    // per head
  int32_t value_dim = 0;  // per head; ignored when values_in_keys
  bool values_in_keys = false;  // latent attention: a value is the first value_dim of its key
  DType dtype = DType::f16;
  int32_t block_tokens = 16;
  int32_t blocks = 0;
};
class KvCache {
 public:
  virtual ~KvCache() = default;
  [[nodiscard]] virtual const KvCacheSpec& spec() const = 0;
};

// ---- the batch as ops see it: the plan on the device, with the counts that launches need ----
struct Batch {
  PlanView plan;                 // host side
  const void* device = nullptr;  // the same bytes on the device
  int32_t rows = 0;              // may be padded beyond the plan's for a captured graph
  int32_t sequences = 0;
  uint32_t ring = 0;             // which of the backend's step buffers this step uses
};

// ---- arguments of the ops ----
struct EmbedArgs {
  Matrix table;             // vocab (or its shard) x hidden
  int32_t first_token = 0;  // of the shard; rows of other tokens become zero
  float scale = 1.0F;
  Matrix output;
};
struct InjectArgs {
  // What the plan's injects refer to, resolved by the caller, in the plan's order.
  std::span<const Matrix> sources;
  Matrix output;
};

enum class NormKind : uint8_t { rms, layer };
// residual += input (when there is a residual: the input is spent then, and may never have been written); output = norm(residual or input) * (weight + weight_offset) + bias
struct NormArgs {
  NormKind kind = NormKind::rms;
  Matrix input;
  Matrix residual;  // empty: input is normalised as it is
  Matrix weight;
  Matrix bias;                 // empty or 1 x hidden
  float weight_offset = 0.0F;  // Gemma stores weight - 1
  float eps = 1e-5F;
  int32_t group = 0;  // columns normalised together; 0: the whole row (q/k norm: head_dim)
  Matrix output;      // may be the input
};
// output = input * scale (+ addend, when there is one); both may be the output.
struct AddArgs {
  Matrix input;
  Matrix addend;
  float scale = 1.0F;
  Matrix output;
};

// output = input * weight, column by column (layer scale).
struct ScaleColumnsArgs {
  Matrix input;
  Matrix weight;  // 1 x cols
  Matrix output;  // may be the input
};

enum class RowSelect : uint8_t { all, text, vision };  // by Section::modality
struct LinearArgs {
  Matrix input;
  const LinearWeight* weight = nullptr;
  RowSelect select = RowSelect::all;  // rows not selected are left alone in the output
  Matrix output;                      // activation dtype, or f32 (logits, router)
};
// Per head: output[:, h] = weight[h] * input[:, h]; weight is heads x (out x in), one above the other.
struct HeadLinearArgs {
  Matrix input;   // rows x heads * in
  Matrix weight;  // heads * out x in, or with `transposed` heads * in x out
  bool transposed = false;
  int32_t heads = 0;
  Matrix output;  // rows x heads * out
};

enum class RopeStyle : uint8_t { half, interleaved };  // NeoX halves, or GPT-J pairs
// Frequencies are tables made on the host; a row takes the table whose length bound admits
// max(prompt_len, position + 1). Dynamic NTK has its frequencies computed from that length.
struct RopeSpec {
  RopeStyle style = RopeStyle::half;
  int32_t rotary_dim = 0;  // 0: no rope (positions learnt, ALiBi, or none)
  Matrix frequencies;      // f32 on the device: tables x rotary_dim / 2
  int32_t short_length = 0;       // longrope: rows up to this length take table 0, longer take table 1
  float attention_scale = 1.0F;       // multiplies cos and sin of table 0
  float attention_scale_long = 1.0F;  // and of table 1
  float dynamic_base = 0.0F;          // > 0: dynamic NTK from this base …
  float dynamic_factor = 1.0F;        // … with this factor …
  int32_t dynamic_length = 0;         // … beyond this original length
  int32_t sections[3] = {0, 0, 0};    // M-RoPE: rotary pairs by time, height, width; 0: plain
  bool sections_interleaved = false;
};
// Rotates q and k in place and writes k and v into the cache at the rows' positions.
struct RopeWriteArgs {
  Matrix query;  // rows x heads * head_dim; may be empty
  Matrix key;    // rows x kv_heads * key_dim
  Matrix value;  // rows x kv_heads * value_dim; empty when values_in_keys
  int32_t heads = 0;
  int32_t head_dim = 0;
  int32_t rotary_begin = 0;  // first rotated element of a head (latent attention: behind the latent part)
  const RopeSpec* rope = nullptr;
  KvCache* cache = nullptr;  // null: rotate only
  int32_t layer = 0;         // within the group
  int32_t group = 0;
};

enum class AttentionSpan : uint8_t { causal, cross };
struct AttentionArgs {
  Matrix query;
  KvCache* cache = nullptr;
  int32_t layer = 0;
  int32_t group = 0;
  AttentionSpan span = AttentionSpan::causal;  // cross: every row sees cross_len encoder rows
  int32_t heads = 0;
  int32_t window = 0;        // tokens seen, the own one included; 0: all
  float scale = 1.0F;
  float softcap = 0.0F;      // 0: none
  Matrix alibi_slopes;       // empty or 1 x heads, f32
  Matrix sinks;              // empty or 1 x heads, f32
  Matrix output;             // rows x heads * value_dim
};
// Encoder rows of cross-attention: keys and values of sequence `sequence` from row 0 on.
struct CrossWriteArgs {
  int32_t sequence = 0;
  Matrix key;
  Matrix value;
  KvCache* cache = nullptr;
  int32_t layer = 0;
  int32_t group = 0;
};
// Packed bidirectional attention without a cache: vision towers. Item i is rows [ends[i-1], ends[i]).
struct PackedAttentionArgs {
  Matrix query, key, value;
  std::span<const int32_t> ends;
  int32_t heads = 0;
  int32_t kv_heads = 0;
  float scale = 1.0F;
  Matrix output;
  std::span<const int32_t> key_ends{};  // of the keys and values, as many; empty: like `ends`
};

// Row i of the output is the sum over k < taps of weights[i, k] * row rows[i, k] of the inputs, whose
// rows count through; -1 adds nothing. Moves, shuffles, pools and resamples rows of vision towers.
struct MixRowsArgs {
  std::span<const Matrix> inputs;     // activation or weight dtype, output.cols columns each
  std::span<const int32_t> rows;      // output.rows x taps
  std::span<const float> weights{};   // as many; empty: each counts once
  int32_t taps = 1;
  bool accumulate = false;            // adds to what is in the output
  Matrix output;
};

enum class Activation : uint8_t { silu, gelu, gelu_tanh, gelu_quick, relu, relu2 };
// gated: output = act(input[:, :n]) * input[:, n:]; plain: output = act(input).
struct ActivationArgs {
  Activation kind = Activation::silu;
  Matrix input;
  Matrix output;
};

enum class RouterScore : uint8_t { softmax, sigmoid };
struct RoutingSpec {
  RouterScore score = RouterScore::softmax;
  int32_t experts = 0;
  int32_t top_k = 0;
  bool renormalise = false;    // chosen weights sum to one
  float scale = 1.0F;
  int32_t groups = 1;          // experts are chosen within the best top_groups of these
  int32_t top_groups = 1;
  int32_t group_score_top = 1; // a group's score: sum of its best so many (DeepSeek-V2: 1, V3: 2)
  Matrix correction;           // empty or 1 x experts, f32: added for choosing only
};
struct ExpertsArgs {
  Matrix input;
  Matrix router_logits;  // rows x experts, f32
  const RoutingSpec* routing = nullptr;
  std::span<const LinearWeight> gate_up;  // one per local expert
  std::span<const LinearWeight> down;
  int32_t first_expert = 0;               // of the local ones (expert parallel)
  Activation activation = Activation::silu;
  std::span<const int32_t> forced;  // tests: rows x top_k expert ids in place of the routing's choice
  Matrix output;                    // weighted sum over the chosen experts
};

struct GatherArgs {  // output[i] = input[plan.logit_rows[i].row]
  Matrix input;
  Matrix output;
};
struct SampleArgs {
  Matrix logits;  // logit rows x vocab, f32; scratch afterwards
  float scale = 1.0F;    // logits are multiplied by this …
  float softcap = 0.0F;  // … and capped by this before anything looks at them
  std::span<const uint32_t> grammar_mask;  // host; mask rows x ceil(vocab / 32); empty: none
};

// Several devices that work on one model. Rank r of size n; calls are collective and in order.
class Communicator {
 public:
  virtual ~Communicator() = default;
  [[nodiscard]] virtual int32_t rank() const = 0;
  [[nodiscard]] virtual int32_t size() const = 0;
  virtual void all_reduce_sum(const Matrix& data) = 0;
  // Rank r's columns go to columns [r * in.cols, (r + 1) * in.cols) of `out` on every rank.
  virtual void all_gather_columns(const Matrix& in, const Matrix& out) = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  [[nodiscard]] virtual const DeviceInfo& info() const = 0;
  [[nodiscard]] virtual DType activation_dtype(DType weights) const = 0;

  // ---- memory ----
  virtual Result<std::unique_ptr<DeviceBuffer>> allocate(size_t bytes, std::string_view what) = 0;
  virtual Status upload(void* device, const void* host, size_t bytes) = 0;
  virtual Status download(void* host, const void* device, size_t bytes) = 0;
  // Places a linear weight whose parts lie in host memory (mapped files stay mapped until the
  // model is gone). `arena` owns what had to be copied.
  virtual Result<LinearWeight> place(const LinearWeight& host,
                                     std::vector<std::unique_ptr<DeviceBuffer>>& arena) = 0;
  virtual Result<Matrix> place(const Matrix& host,
                               std::vector<std::unique_ptr<DeviceBuffer>>& arena) = 0;
  virtual Result<std::unique_ptr<KvCache>> create_cache(const KvCacheSpec& spec) = 0;
  [[nodiscard]] virtual size_t cache_block_bytes(const KvCacheSpec& spec) const = 0;
  // From now on a row's results shall depend neither on the rows around it nor on how its sequence was
  // cut into steps. Before reserve_steps(); backends that are so anyway need not do anything.
  virtual void keep_rows_independent() {}
  // Device state per slot (last token, tail, penalty counts) and step buffers, once, before steps.
  virtual Status reserve_steps(int32_t slots, int32_t rows_max, int32_t logit_rows_max,
                               int32_t vocab) = 0;

  // ---- a step: begin, ops, sample, finish. Two may be in flight: begin(n+1) before finish(n) ----
  // The plan's bytes may go or change when this has returned; only those of a plan that repeats the
  // one before (batch.hpp) stay as they are until sample().
  virtual Result<Batch> begin_step(const PlanView& plan, std::span<KvCache* const> caches) = 0;
  // The step before once more, its drawing included, for a plan that repeats it in the same bytes: true,
  // and `batch` is under way. Of such a plan the header and the tables are up to date; rows are where
  // they were or somewhere between, since whoever can do this knows them. False: nothing has happened,
  // and begin_step() gets the whole plan.
  virtual bool repeat_step(const PlanView& /*plan*/, std::span<KvCache* const> /*caches*/,
                           Batch& /*batch*/) {
    return false;
  }
  // Forward passes of the same shape may be recorded once and replayed. replay() runs a recorded
  // one and says true; else the caller brackets the ops with record() and end_record(). The drawing
  // that follows may be part of the recording, and all of it may wait for that.
  virtual bool replay(const Batch&, uint64_t /*shape_key*/) { return false; }
  virtual void record(const Batch&, uint64_t /*shape_key*/) {}
  virtual void end_record() {}
  virtual void sample(const Batch&, const SampleArgs&) = 0;
  // Waits for the step and gives its tokens, or the failure of any op since the last finish.
  virtual Result<StepResult> finish_step(const Batch&) = 0;
  // A result that everybody has read: its memory may serve one to come.
  virtual void reuse(StepResult&&) {}
  virtual Status synchronize() = 0;

  // ---- ops ----
  virtual void embed(const Batch&, const EmbedArgs&) = 0;
  virtual void inject(const Batch&, const InjectArgs&) = 0;
  virtual void norm(const NormArgs&) = 0;
  virtual void add(const AddArgs&) = 0;
  virtual void scale_columns(const ScaleColumnsArgs&) = 0;
  virtual void mix_rows(const MixRowsArgs&) = 0;
  virtual void linear(const Batch&, const LinearArgs&) = 0;
  virtual void head_linear(const HeadLinearArgs&) = 0;
  virtual void rope_write(const Batch&, const RopeWriteArgs&) = 0;
  virtual void attention(const Batch&, const AttentionArgs&) = 0;
  virtual void cross_write(const Batch&, const CrossWriteArgs&) = 0;
  virtual void packed_attention(const PackedAttentionArgs&) = 0;
  virtual void gated_activation(const ActivationArgs&) = 0;
  virtual void activation(const ActivationArgs&) = 0;
  virtual void experts(const Batch&, const ExpertsArgs&) = 0;
  virtual void gather(const Batch&, const GatherArgs&) = 0;
};

enum class LogLevel : int32_t;  // base/log.hpp: 0 trace, 1 debug, 2 info, 3 warn, 4 error

// What a backend plugin exports as `troupe_backend_plugin`.
struct BackendPlugin {
  uint32_t interface = kBackendInterface;
  const char* build_id = nullptr;  // our own plugins: must equal the engine's; others: null
  const char* name = nullptr;      // "cuda"
  // Devices this machine has; a failure says why there are none (driver missing or too old …).
  Result<int32_t> (*device_count)() = nullptr;
  Result<std::unique_ptr<Backend>> (*open)(int32_t device) = nullptr;
  // Says where to write what a user who asks for logs may want to know; called before any device is
  // opened, from then on any thread may write. Null: it has nothing to say.
  void (*set_log)(void (*write)(LogLevel, std::string_view)) = nullptr;
};

}  // namespace troupe
