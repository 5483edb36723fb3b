// The device, its memory, and the life of a step; the ops are in cuda_ops.cpp.
#include "kernels/cuda/cuda_backend.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "kernels/cuda/kv_cache.hpp"
#include "kernels/cuda/launch.cuh"

namespace troupe::cuda {
namespace {

constexpr size_t kGemmWorkspace = size_t{64} << 20;
constexpr size_t kLoadPiece = size_t{32} << 20;
constexpr int kLoadThreads = 4;

// memcpy by a few threads: one alone does not keep up with the bus.
void copy_widely(std::byte* to, const std::byte* from, size_t bytes) {
  const size_t each = (bytes / kLoadThreads + 4095) / 4096 * 4096;
  std::vector<std::jthread> threads;
  for (size_t begin = each; begin < bytes; begin += each) {
    threads.emplace_back(
        [=] { std::memcpy(to + begin, from + begin, std::min(each, bytes - begin)); });
  }
  std::memcpy(to, from, std::min(each, bytes));
}

// What was in use when the process first came to a device: its context, and other programs.
int64_t context_bytes(int device) {
  static std::array<std::atomic<int64_t>, 64> first = {};
  if (device < 0 || static_cast<size_t>(device) >= first.size()) return 0;
  std::atomic<int64_t>& known = first[static_cast<size_t>(device)];
  int64_t expected = 0;
  if (known.load() == 0) known.compare_exchange_strong(expected, device_bytes_used());
  return known.load();
}

}  // namespace

const DeviceInfo& CudaBackend::info() const {
  size_t free = 0, total = 0;
  if (cudaMemGetInfo(&free, &total) == cudaSuccess) info_.memory_free = free;
  return info_;
}

Result<std::unique_ptr<Backend>> CudaBackend::open(int32_t device) {
  std::unique_ptr<CudaBackend> backend(new CudaBackend);
  TR_TRY(backend->start(device));
  return std::unique_ptr<Backend>(std::move(backend));
}

Status CudaBackend::start(int32_t device) {
  device_ = device;
  TR_TRY(status_of(use_device(device), "opening cuda:" + std::to_string(device)));
  cudaDeviceProp properties = {};
  TR_TRY(
      status_of(cudaGetDeviceProperties(&properties, device), "reading the device's properties"));
  if (!has_code_here()) {
    return unsupported(std::string(properties.name) + " has compute capability " +
                       std::to_string(properties.major) + "." + std::to_string(properties.minor) +
                       ", for which this build has no kernels; see TROUPE_CUDA_CODE in "
                       "docs/kernels.md");
  }
  context_bytes(device);
  multiprocessors_ = properties.multiProcessorCount;
  shared_max_ = properties.sharedMemPerBlockOptin;
  major_ = runs_hopper_code() ? properties.major : std::min(properties.major, 8);
  size_t free = 0, total = 0;
  TR_TRY(status_of(cudaMemGetInfo(&free, &total), "reading free memory"));
  info_ = {"cuda:" + std::to_string(device),
           std::string(properties.name) + ", " + std::to_string(multiprocessors_) +
               " multiprocessors, compute " + std::to_string(properties.major) + "." +
               std::to_string(properties.minor),
           total,
           free,
           false,
           0};
  TR_TRY(status_of(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream"));
  for (InFlight& f : ring_) {
    TR_TRY(status_of(cudaEventCreateWithFlags(&f.done, cudaEventDisableTiming), "making an event"));
  }
  for (cudaEvent_t& e : loaded_)
    TR_TRY(status_of(cudaEventCreateWithFlags(&e, cudaEventDisableTiming), "making an event"));
  // cuBLASLt has machine code only: where a driver is told to compile PTX (CUDA_FORCE_PTX_JIT, a
  // check of the portable kernels) it does not open, and portable_gemm takes every product.
  auto lt = CublasLt::open();
  if (!lt.ok() && major_ == properties.major) return lt.status();
  if (lt.ok()) lt_ = std::move(*lt);
  TR_TRY(grow(gemm_workspace_, kGemmWorkspace, "cuBLASLt's workspace"));
  TR_TRY(grow(partials_,
              std::max({skinny_gemm_partials_bytes(kSkinnyRowsMax), slim_gemm_partials_bytes(),
                        wide_gemm_partials_bytes(multiprocessors_)}),
              "shared sums"));
  return grow(counters_, skinny_gemm_counters(1 << 22) * sizeof(uint32_t), "counters", true);
}

CudaBackend::~CudaBackend() {
  use();
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  drop_graphs();
  for (InFlight& f : ring_) {
    if (f.done != nullptr) cudaEventDestroy(f.done);
  }
  for (cudaEvent_t e : loaded_) {
    if (e != nullptr) cudaEventDestroy(e);
  }
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

void CudaBackend::use() const {
  use_device(device_);
}

void CudaBackend::fail(Status status) {
  if (failure_.ok()) failure_ = std::move(status);
}

void CudaBackend::check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) fail(status_of(error, what));
}

// Kernels' code and what the driver and cuBLASLt keep for it is what nothing else explains.
std::vector<MemoryShare> CudaBackend::memory_shares() const {
  use();
  const int64_t context = context_bytes(device_), allocated = device_bytes_held(device_);
  const auto packed = static_cast<int64_t>(slims_->bytes());
  const int64_t modules = device_bytes_used() - context - allocated - graph_bytes_;
  return {{"context", context},
          {"modules", std::max(modules, int64_t{0})},
          {"graphs", graph_bytes_},
          {"packed_weights", packed},
          {"allocated", allocated - packed}};
}

Status CudaBackend::grow(DeviceArea& area, size_t bytes, std::string_view what, bool zeroed) {
  TR_ASSIGN(const bool moved, area.grow(bytes, what, zeroed));
  if (moved) drop_graphs();
  return ok_status();
}

// ---- memory ----

Result<std::unique_ptr<DeviceBuffer>> CudaBackend::allocate(size_t bytes, std::string_view what) {
  use();
  return allocate_device(bytes, what);
}

Status CudaBackend::upload(void* device, const void* host, size_t bytes) {
  use();
  flush();
  if (bytes == 0) return ok_status();
  if (bytes < (size_t{1} << 20)) {
    TR_TRY(status_of(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream_),
                     "uploading"));
    return status_of(cudaStreamSynchronize(stream_), "uploading");
  }
  const auto* from = static_cast<const std::byte*>(host);
  auto* to = static_cast<std::byte*>(device);
  for (size_t at = 0, i = 0; at < bytes; at += kLoadPiece, i ^= 1) {
    const size_t piece = std::min(kLoadPiece, bytes - at);
    TR_TRY(loading_[i].grow(kLoadPiece, "loading"));
    TR_TRY(status_of(cudaEventSynchronize(loaded_[i]), "uploading"));
    copy_widely(loading_[i].data(), from + at, piece);
    TR_TRY(status_of(
        cudaMemcpyAsync(to + at, loading_[i].data(), piece, cudaMemcpyHostToDevice, stream_),
        "uploading"));
    TR_TRY(status_of(cudaEventRecord(loaded_[i], stream_), "uploading"));
  }
  return ok_status();
}

Status CudaBackend::download(void* host, const void* device, size_t bytes) {
  use();
  flush();
  if (bytes == 0) return ok_status();
  TR_TRY(status_of(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream_),
                   "downloading"));
  return status_of(cudaStreamSynchronize(stream_), "downloading");
}

Result<std::unique_ptr<KvCache>> CudaBackend::create_cache(const KvCacheSpec& spec) {
  use();
  decodes_ = true;
  cache_blocks_ += spec.blocks;
  cache_layers_ += static_cast<size_t>(spec.layers);
  return CudaKvCache::create(spec);
}

size_t CudaBackend::cache_block_bytes(const KvCacheSpec& spec) const {
  return CudaKvCache::block_bytes(spec);
}

Status CudaBackend::reserve_steps(int32_t slots, int32_t rows_max, int32_t logit_rows_max,
                                  int32_t vocab) {
  use();
  if (slots < 1 || rows_max < 1 || logit_rows_max < 0 || vocab < 1) {
    return invalid("reserve_steps: slots, rows and vocabulary must be positive");
  }
  TR_TRY(synchronize());
  const auto n = static_cast<size_t>(slots);
  TR_TRY(grow(last_tokens_, n * 4, "last tokens", true));
  TR_TRY(grow(tails_, n * kTail * 4, "tails", true));
  TR_TRY(grow(tail_counts_, n * 4, "tails", true));
  TR_TRY(grow(greedy_rows_, static_cast<size_t>(std::max(logit_rows_max, 1)) * sizeof(GreedyRow),
              "greedy rows", true));
  for (InFlight& f : ring_) {
    TR_TRY(f.plan.prepare(rows_max, slots, cache_blocks_));
  }
  // Everything a slot remembers is forgotten.
  TR_TRY(status_of(cudaMemsetAsync(last_tokens_.as(), 0xFF, n * 4, stream_), "clearing slots"));
  TR_TRY(status_of(cudaMemsetAsync(tail_counts_.as(), 0, n * 4, stream_), "clearing slots"));
  if (counts_.bytes() > 0)
    TR_TRY(
        status_of(cudaMemsetAsync(counts_.as(), 0, counts_.bytes(), stream_), "clearing counts"));
  cache_blocks_ = 0;
  slots_ = slots;
  rows_max_ = rows_max;
  logit_rows_max_ = logit_rows_max;
  vocab_ = vocab;
  for (InFlight& f : ring_) TR_TRY(f.results.prepare(logit_rows_max));
  if (!decodes_) TR_TRY(go_first());
  TR_TRY(pack_weights());
  TR_TRY(tune_products());
  give_idle_copies_back();
  return ok_status();
}

// A tower's kernels go before those of a language model on the same device. The language model has
// no full step to run until pictures are there, and steps of a few sequences would take the time that
// encoding them needs. A call of the encoder is bounded, and so is what decoding waits for.
Status CudaBackend::go_first() {
  if (goes_first_) return ok_status();
  int lowest = 0, highest = 0;
  TR_TRY(status_of(cudaDeviceGetStreamPriorityRange(&lowest, &highest), "asking for priorities"));
  cudaStream_t stream = nullptr;
  TR_TRY(status_of(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, highest),
                   "making a stream"));
  cudaStreamDestroy(std::exchange(stream_, stream));
  goes_first_ = true;
  return ok_status();
}

// ---- a step ----

Status CudaBackend::check_plan(const PlanView& plan, std::span<KvCache* const> caches) const {
  const auto logit_rows = static_cast<int32_t>(plan.logit_rows().size());
  if (plan.rows() > rows_max_ || logit_rows > logit_rows_max_) {
    return invalid("step plan: " + std::to_string(plan.rows()) + " rows and " +
                   std::to_string(logit_rows) + " logit rows, reserved were " +
                   std::to_string(rows_max_) + " and " + std::to_string(logit_rows_max_));
  }
  for (const PlanSequence& s : plan.sequences()) {
    if (s.slot >= slots_)
      return invalid("step plan: slot " + std::to_string(s.slot) + " of " + std::to_string(slots_));
  }
  for (const PlanSampling& s : plan.sampling()) {
    if (s.slot < 0 || s.slot >= slots_) return invalid("step plan: sampling slot out of range");
  }
  if (plan.header().groups > static_cast<int32_t>(caches.size())) {
    return invalid("step plan: " + std::to_string(plan.header().groups) + " cache groups, given " +
                   std::to_string(caches.size()));
  }
  for (int32_t g = 0; g < plan.header().groups; ++g) {
    const auto blocks = static_cast<uint32_t>(caches[static_cast<size_t>(g)]->spec().blocks);
    for (int32_t s = 0; s < static_cast<int32_t>(plan.sequences().size()); ++s) {
      for (const int32_t b : plan.block_table(s, g)) {
        if (static_cast<uint32_t>(b) >= blocks) return invalid("step plan: block out of range");
      }
    }
  }
  for (const PlanCopy& c : plan.copies()) {
    const bool group = c.group >= 0 && c.group < static_cast<int32_t>(caches.size());
    const int32_t blocks = group ? caches[static_cast<size_t>(c.group)]->spec().blocks : 0;
    if (!group || c.from < 0 || c.from >= blocks || c.to < 0 || c.to >= blocks) {
      return invalid("step plan: copy of a block out of range");
    }
  }
  return ok_status();
}

// Whether the plan repeats the one that the step was given, in its place.
bool CudaBackend::follows(const InFlight& last, const PlanView& given) {
  return given.repeats() && last.of == given.bytes().data() && last.step + 1 == given.step();
}

StepShape CudaBackend::step_shape(std::span<KvCache* const> caches) const {
  return {heads_per_kv_, caches.empty() ? 1 : caches[0]->spec().kv_heads, multiprocessors_,
          rows_independent_};
}

void CudaBackend::open_slot(const PlanView& given) {
  InFlight& f = ring_[next_];
  next_ = (next_ + 1) % kRing;
  f.of = given.bytes().data();
  f.step = given.step();
  f.open = true;
  f.sampled = f.tells = false;
  f.graph = nullptr;
}

Batch CudaBackend::batch_of(const PlanView& plan, uint32_t index) const {
  const StepCounts& c = ring_[index].plan.counts;
  Batch batch;
  batch.plan = plan;
  batch.device = device_plan_.as();
  batch.rows = c.rows;
  batch.sequences = c.sequences;
  batch.ring = index;
  return batch;
}

Result<Batch> CudaBackend::begin_step(const PlanView& given, std::span<KvCache* const> caches) {
  use();
  flush();
  const uint32_t index = next_;
  InFlight& f = ring_[index];
  const InFlight& last = ring_[(index + kRing - 1) % kRing];
  if (f.open) TR_TRY(synchronize());  // nobody asked what became of it
  f.of = nullptr;
  PlanView plan = given;
  if (!follows(last, given) || !f.plan.repeat(last.plan, given, caches, step_shape(caches))) {
    TR_TRY(check_plan(given, caches));
    f.plan_bytes.assign(given.bytes().begin(), given.bytes().end());
    plan = given.at(f.plan_bytes);
    TR_TRY(f.plan.build(plan, caches, step_shape(caches)));
  }
  open_slot(given);
  const StepCounts& c = f.plan.counts;
  size_t partial = 0;
  size_t kv_heads = 1;
  for (KvCache* cache : caches) {
    const auto heads = static_cast<size_t>(cache->spec().kv_heads);
    kv_heads = std::max(kv_heads, heads);
    partial =
        std::max(partial, heads * decode_partials_floats(cache->spec().key_dim) * sizeof(float));
  }
  partial = std::max(partial, latent_partials_floats(latent_heads_) * sizeof(float));
  kv_heads = std::max(kv_heads, static_cast<size_t>(latent_heads_) / kLatentHeads + 1);
  if (c.shares_max > 1) {
    TR_TRY(grow(attention_partials_, partial * static_cast<size_t>(c.decode_items) * 5 / 4,
                "shares of attention"));
  }
  const size_t runs = std::max<size_t>(static_cast<size_t>(c.decode_runs), 256);
  TR_TRY(grow(attention_counters_, (runs * kv_heads + 2) * 4, "counters", true));
  if (f.plan.penalties) {
    TR_TRY(grow(counts_, static_cast<size_t>(slots_) * static_cast<size_t>(vocab_) * 4,
                "penalty counts", true));
  }
  if (f.plan.changes) {
    TR_TRY(grow(changed_, static_cast<size_t>(c.logit_rows) * static_cast<size_t>(vocab_) * 4,
                "logits under rules"));
  }
  f.tops_stride = std::max(f.plan.tops_max, 0);
  TR_TRY(f.results.begin(c.logit_rows, f.tops_stride));
  f.plan.seal(ring_[next_].plan, f.results.target());
  for (const PlanCopy& copy : plan.copies()) {
    if (copy.from == copy.to) continue;
    TR_TRY(static_cast<CudaKvCache*>(caches[static_cast<size_t>(copy.group)])
               ->copy_block(copy.from, copy.to, stream_));
  }
  bool moved = false;
  TR_TRY(f.plan.place(device_plan_, device_blocks_, moved));
  if (moved) {
    drop_graphs();
    plan_next_ = nullptr;
  }
  unplaced_ = &f.plan;
  return batch_of(plan, index);
}

Status CudaBackend::synchronize() {
  use();
  flush();
  return status_of(cudaStreamSynchronize(stream_), "waiting for the device");
}

}  // namespace troupe::cuda
