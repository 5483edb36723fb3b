// A whole backend made of the plain ops: the oracle of the ops suite, and what a new device starts
// from: it inherits this and takes over one op after the other. Slow on purpose.
#pragma once

#include <memory>
#include <string>

#include "kernels/backend.hpp"
#include "kernels/cpu/host_backend.hpp"

namespace troupe::cpu {

class PlainBackend : public HostBackend {
 public:
  PlainBackend(std::string name, std::string description);

  void sample(const Batch& batch, const SampleArgs& args) override;
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
};

std::unique_ptr<Backend> open_plain_backend();

}  // namespace troupe::cpu
