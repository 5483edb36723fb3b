#include "kernels/cpu/plain/plain_backend.hpp"

#include "kernels/cpu/host_backend.hpp"
#include "kernels/cpu/plain/plain.hpp"

namespace troupe::cpu {
namespace {

class PlainBackend final : public HostBackend {
 public:
  PlainBackend() : HostBackend("plain", "plain reference", 1) {}

  void sample(const Batch& b, const SampleArgs& a) override {
    plain::sample(b, steps().slots, a, result_of(b));
  }
  void embed(const Batch& b, const EmbedArgs& a) override { plain::embed(b, steps().slots, a); }
  void inject(const Batch& b, const InjectArgs& a) override { plain::inject(b, a); }
  void norm(const NormArgs& a) override { plain::norm(a); }
  void add(const AddArgs& a) override { plain::add(a); }
  void scale_columns(const ScaleColumnsArgs& a) override { plain::scale_columns(a); }
  void mix_rows(const MixRowsArgs& a) override { plain::mix_rows(a); }
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
};

}  // namespace

std::unique_ptr<Backend> open_plain_backend() { return std::make_unique<PlainBackend>(); }

}  // namespace troupe::cpu
