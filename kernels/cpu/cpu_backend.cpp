#include "kernels/cpu/cpu_backend.hpp"

#include <string>

#include "kernels/cpu/host_backend.hpp"
#include "kernels/cpu/host_memory.hpp"
#include "kernels/cpu/ops.hpp"

namespace troupe::cpu {
namespace {

constexpr int32_t kThreadsMax = 1024;

class CpuBackend final : public HostBackend {
 public:
  explicit CpuBackend(const CpuOptions& o)
      : HostBackend("cpu:" + std::to_string(o.device), processor_name(), o.threads),
        pool_(o.threads, o.cores),
        context_{pool_, scratch_, rope_} {}

  Status reserve_steps(int32_t slots, int32_t rows_max, int32_t logit_rows_max,
                       int32_t vocab) override {
    TR_TRY(HostBackend::reserve_steps(slots, rows_max, logit_rows_max, vocab));
    rope_.reserve(rows_max);
    return ok_status();
  }
  Result<Batch> begin_step(const PlanView& plan, std::span<KvCache* const> caches) override {
    auto batch = HostBackend::begin_step(plan, caches);
    if (batch.ok()) rope_.forget(batch->ring);
    return batch;
  }
  void sample(const Batch& b, const SampleArgs& a) override {
    cpu::sample(context_, b, steps().slots, a, result_of(b));
  }
  void embed(const Batch& b, const EmbedArgs& a) override {
    cpu::embed(context_, b, steps().slots, a);
  }
  void inject(const Batch& b, const InjectArgs& a) override { cpu::inject(context_, b, a); }
  void norm(const NormArgs& a) override { cpu::norm(context_, a); }
  void add(const AddArgs& a) override { cpu::add(context_, a); }
  void scale_columns(const ScaleColumnsArgs& a) override { cpu::scale_columns(context_, a); }
  void mix_rows(const MixRowsArgs& a) override { cpu::mix_rows(context_, a); }
  void linear(const Batch& b, const LinearArgs& a) override { cpu::linear(context_, b, a); }
  void head_linear(const HeadLinearArgs& a) override { cpu::head_linear(context_, a); }
  void rope_write(const Batch& b, const RopeWriteArgs& a) override {
    cpu::rope_write(context_, b, a);
  }
  void attention(const Batch& b, const AttentionArgs& a) override {
    cpu::attention(context_, b, a);
  }
  void cross_write(const Batch& b, const CrossWriteArgs& a) override {
    cpu::cross_write(context_, b, a);
  }
  void packed_attention(const PackedAttentionArgs& a) override {
    cpu::packed_attention(context_, a);
  }
  void gated_activation(const ActivationArgs& a) override { cpu::gated_activation(context_, a); }
  void activation(const ActivationArgs& a) override { cpu::activation(context_, a); }
  void experts(const Batch&, const ExpertsArgs& a) override { cpu::experts(context_, a); }
  void gather(const Batch& b, const GatherArgs& a) override { cpu::gather(context_, b, a); }

 private:
  ThreadPool pool_;
  Scratch scratch_;
  RopeTables rope_;
  Context context_;
};

}  // namespace

Result<std::unique_ptr<Backend>> open_cpu_backend(const CpuOptions& options) {
  if (options.threads < 1 || options.threads > kThreadsMax) {
    return invalid("CPU backend: threads is " + std::to_string(options.threads) +
                   ", must be 1 to " + std::to_string(kThreadsMax));
  }
  return std::unique_ptr<Backend>(new CpuBackend(options));
}

}  // namespace troupe::cpu
