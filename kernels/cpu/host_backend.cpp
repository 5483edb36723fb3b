#include "kernels/cpu/host_backend.hpp"

#include <cstring>
#include <string>
#include <utility>

#include "kernels/cpu/half.hpp"
#include "kernels/cpu/host_memory.hpp"
#include "kernels/cpu/kv_cache.hpp"

namespace troupe::cpu {
namespace {

const char* format_name(WeightFormat format) {
  switch (format) {
    case WeightFormat::plain: return "plain";
    case WeightFormat::awq_u4: return "awq_u4";
    case WeightFormat::gptq_u4: return "gptq_u4";
    case WeightFormat::i8_channel: return "i8_channel";
    case WeightFormat::fp8_block: return "fp8_block";
  }
  return "?";
}

bool is_float(DType t) { return t == DType::f32 || t == DType::f16 || t == DType::bf16; }

Status check_dtype(const Matrix& m, const char* what) {
  if (is_float(m.dtype)) return ok_status();
  return unsupported(std::string(what) + " of dtype " + dtype_name(m.dtype) +
                     ": the CPU backend reads f32, f16 and bf16");
}

Result<Matrix> copy_aligned(const Matrix& m, std::vector<std::unique_ptr<DeviceBuffer>>& arena) {
  const size_t row_bytes = static_cast<size_t>(m.cols) * dtype_bytes(m.dtype);
  TR_ASSIGN(auto buffer, allocate_host(row_bytes * static_cast<size_t>(m.rows), "weight copy"));
  const size_t stride_bytes = static_cast<size_t>(m.stride) * dtype_bytes(m.dtype);
  auto* to = static_cast<std::byte*>(buffer->data());
  const auto* from = static_cast<const std::byte*>(m.data);
  for (int64_t r = 0; r < m.rows; ++r) {
    std::memcpy(to + static_cast<size_t>(r) * row_bytes, from + static_cast<size_t>(r) * stride_bytes,
                row_bytes);
  }
  const Matrix copy{buffer->data(), m.dtype, m.rows, m.cols, m.cols};
  arena.push_back(std::move(buffer));
  return copy;
}

Result<Matrix> widen(const Matrix& m, std::vector<std::unique_ptr<DeviceBuffer>>& arena) {
  TR_ASSIGN(auto buffer, allocate_host(static_cast<size_t>(m.cols) * sizeof(float), "vector"));
  const Matrix wide{buffer->data(), DType::f32, 1, m.cols, m.cols};
  for (int64_t c = 0; c < m.cols; ++c) wide.row<float>(0)[c] = at(m, 0, c);
  arena.push_back(std::move(buffer));
  return wide;
}

Status check_plan(const PlanView& plan, std::span<KvCache* const> caches, const StepState& state) {
  const auto slots = static_cast<int32_t>(state.slots.size());
  const auto logit_rows = static_cast<int32_t>(plan.logit_rows().size());
  if (plan.rows() > state.rows_max || logit_rows > state.logit_rows_max) {
    return invalid("step plan: " + std::to_string(plan.rows()) + " rows and " +
                   std::to_string(logit_rows) + " logit rows, reserved were " +
                   std::to_string(state.rows_max) + " and " + std::to_string(state.logit_rows_max));
  }
  for (const PlanSequence& s : plan.sequences()) {
    if (s.slot >= slots) return invalid("step plan: slot " + std::to_string(s.slot) + " of " + std::to_string(slots));
  }
  for (const PlanSampling& s : plan.sampling()) {
    if (s.slot < 0 || s.slot >= slots) return invalid("step plan: sampling slot out of range");
  }
  if (plan.header().groups > static_cast<int32_t>(caches.size())) {
    return invalid("step plan: " + std::to_string(plan.header().groups) + " cache groups, given " +
                   std::to_string(caches.size()));
  }
  for (size_t s = 0; s < plan.sequences().size(); ++s) {
    for (int32_t g = 0; g < plan.header().groups; ++g) {
      const auto blocks = static_cast<uint32_t>(caches[static_cast<size_t>(g)]->spec().blocks);
      for (int32_t b : plan.block_table(static_cast<int32_t>(s), g)) {
        if (static_cast<uint32_t>(b) >= blocks) return invalid("step plan: block out of range");
      }
    }
  }
  return ok_status();
}

Status copy_blocks(const PlanView& plan, std::span<KvCache* const> caches) {
  for (const PlanCopy& c : plan.copies()) {
    if (c.group < 0 || c.group >= static_cast<int32_t>(caches.size())) {
      return invalid("step plan: copy in cache group " + std::to_string(c.group));
    }
    const auto* cache = static_cast<const HostKvCache*>(caches[static_cast<size_t>(c.group)]);
    const auto inside = [&](int32_t b) { return b >= 0 && b < cache->spec().blocks; };
    if (!inside(c.from) || !inside(c.to)) return invalid("step plan: copy of a block out of range");
    if (c.from != c.to) cache->copy_block(c.from, c.to);
  }
  return ok_status();
}

}  // namespace

HostBackend::HostBackend(std::string name, std::string description, int32_t threads) {
  const HostMemory memory = host_memory();
  info_.name = std::move(name);
  info_.description = std::move(description);
  info_.memory_total = memory.total;
  info_.memory_free = memory.free;
  info_.unified_memory = true;
  info_.threads = threads;
}

Result<std::unique_ptr<DeviceBuffer>> HostBackend::allocate(size_t bytes, std::string_view what) {
  return allocate_host(bytes, what);
}

Status HostBackend::upload(void* device, const void* host, size_t bytes) {
  if (bytes > 0) std::memcpy(device, host, bytes);
  return ok_status();
}

Status HostBackend::download(void* host, const void* device, size_t bytes) {
  if (bytes > 0) std::memcpy(host, device, bytes);
  return ok_status();
}

Result<Matrix> HostBackend::place(const Matrix& host,
                                  std::vector<std::unique_ptr<DeviceBuffer>>& arena) {
  if (!host) return host;
  TR_TRY(check_dtype(host, "weight"));
  if (host.rows == 1 && host.dtype != DType::f32) return widen(host, arena);
  if (reinterpret_cast<uintptr_t>(host.data) % dtype_bytes(host.dtype) != 0) {
    return copy_aligned(host, arena);
  }
  return host;
}

Result<LinearWeight> HostBackend::place(const LinearWeight& host,
                                        std::vector<std::unique_ptr<DeviceBuffer>>& arena) {
  LinearWeight placed = host;
  for (LinearPart& part : placed.parts) {
    if (part.format != WeightFormat::plain) {
      return unsupported(std::string("weights in the format ") + format_name(part.format) +
                         " on a CPU: use the unquantised model, or a GPU");
    }
    TR_TRY(check_dtype(part.values, "linear weight"));
    if (reinterpret_cast<uintptr_t>(part.values.data) % dtype_bytes(part.values.dtype) != 0) {
      TR_ASSIGN(part.values, copy_aligned(part.values, arena));
    }
    if (part.bias) {
      TR_ASSIGN(part.bias, place(part.bias, arena));
    }
  }
  return placed;
}

Result<std::unique_ptr<KvCache>> HostBackend::create_cache(const KvCacheSpec& spec) {
  return HostKvCache::create(spec);
}

size_t HostBackend::cache_block_bytes(const KvCacheSpec& spec) const {
  return HostKvCache::block_bytes(spec);
}

Status HostBackend::reserve_steps(int32_t slots, int32_t rows_max, int32_t logit_rows_max,
                                  int32_t vocab) {
  if (slots < 1 || rows_max < 1 || logit_rows_max < 0 || vocab < 1) {
    return invalid("reserve_steps: slots, rows and vocabulary must be positive");
  }
  steps_.slots.assign(static_cast<size_t>(slots), SlotState{});
  steps_.rows_max = rows_max;
  steps_.logit_rows_max = logit_rows_max;
  steps_.vocab = vocab;
  return ok_status();
}

Result<Batch> HostBackend::begin_step(const PlanView& plan, std::span<KvCache* const> caches) {
  TR_TRY(check_plan(plan, caches, steps_));
  TR_TRY(copy_blocks(plan, caches));
  const uint32_t ring = steps_.next;
  steps_.next = (ring + 1) % kStepRing;
  StepSlot& slot = steps_.ring[ring];
  slot.bytes.assign(plan.bytes().begin(), plan.bytes().end());
  slot.result.step = plan.step();
  slot.result.tokens.clear();
  slot.result.tops.clear();
  Batch batch;
  TR_ASSIGN(batch.plan, PlanView::parse(slot.bytes));
  batch.device = slot.bytes.data();
  batch.rows = plan.rows();
  batch.sequences = static_cast<int32_t>(plan.sequences().size());
  batch.ring = ring;
  return batch;
}

Result<StepResult> HostBackend::finish_step(const Batch& batch) {
  if (!failure_.ok()) return std::exchange(failure_, Status());
  return result_of(batch);
}

void HostBackend::fail(Status status) {
  if (failure_.ok()) failure_ = std::move(status);
}

}  // namespace troupe::cpu
