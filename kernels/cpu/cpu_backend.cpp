#include "kernels/cpu/cpu_backend.hpp"

#include <string>

#include "kernels/cpu/host_backend.hpp"
#include "kernels/cpu/host_memory.hpp"
#include "kernels/cpu/plain/plain.hpp"
#include "kernels/cpu/thread_pool.hpp"

namespace troupe::cpu {
namespace {

constexpr int32_t kThreadsMax = 1024;

class CpuBackend final : public HostBackend {
 public:
  explicit CpuBackend(const CpuOptions& o)
      : HostBackend("cpu:" + std::to_string(o.device), processor_name(), o.threads),
        pool_(o.threads, o.cores) {}

  void sample(const Batch& b, const SampleArgs& a) override {
    plain::sample(b, steps().slots, a, result_of(b));
  }
  void embed(const Batch& b, const EmbedArgs& a) override { plain::embed(b, steps().slots, a); }
  void inject(const Batch& b, const InjectArgs& a) override { plain::inject(b, a); }
  void norm(const NormArgs& a) override { plain::norm(a); }
  void add(const AddArgs& a) override { plain::add(a); }
  void linear(const Batch& b, const LinearArgs& a) override { plain::linear(b, a); }
  void head_linear(const HeadLinearArgs& a) override { plain::head_linear(a); }
  void rope_write(const Batch& b, const RopeWriteArgs& a) override { plain::rope_write(b, a); }
  void attention(const Batch& b, const AttentionArgs& a) override { plain::attention(b, a); }
  void cross_write(const Batch& b, const CrossWriteArgs& a) override { plain::cross_write(b, a); }
  void packed_attention(const PackedAttentionArgs& a) override { plain::packed_attention(a); }
  void gated_activation(const ActivationArgs& a) override { plain::gated_activation(a); }
  void activation(const ActivationArgs& a) override { plain::activation(a); }
  void experts(const Batch& b, const ExpertsArgs& a) override { plain::experts(b, a); }
  void gather(const Batch& b, const GatherArgs& a) override { plain::gather(b, a); }

 private:
  ThreadPool pool_;
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
