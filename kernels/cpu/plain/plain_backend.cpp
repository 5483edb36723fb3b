#include "kernels/cpu/plain/plain_backend.hpp"

#include <utility>

#include "kernels/cpu/plain/plain.hpp"

namespace troupe::cpu {

PlainBackend::PlainBackend(std::string name, std::string description)
    : HostBackend(std::move(name), std::move(description), 1) {}

void PlainBackend::sample(const Batch& b, const SampleArgs& a) {
  plain::sample(b, steps().slots, a, result_of(b));
}
void PlainBackend::embed(const Batch& b, const EmbedArgs& a) {
  plain::embed(b, steps().slots, a);
}
void PlainBackend::inject(const Batch& b, const InjectArgs& a) {
  plain::inject(b, a);
}
void PlainBackend::norm(const NormArgs& a) {
  plain::norm(a);
}
void PlainBackend::add(const AddArgs& a) {
  plain::add(a);
}
void PlainBackend::scale_columns(const ScaleColumnsArgs& a) {
  plain::scale_columns(a);
}
void PlainBackend::mix_rows(const MixRowsArgs& a) {
  plain::mix_rows(a);
}
void PlainBackend::linear(const Batch& b, const LinearArgs& a) {
  plain::linear(b, a);
}
void PlainBackend::head_linear(const HeadLinearArgs& a) {
  plain::head_linear(a);
}
void PlainBackend::rope_write(const Batch& b, const RopeWriteArgs& a) {
  plain::rope_write(b, a);
}
void PlainBackend::attention(const Batch& b, const AttentionArgs& a) {
  plain::attention(b, a);
}
void PlainBackend::cross_write(const Batch& b, const CrossWriteArgs& a) {
  plain::cross_write(b, a);
}
void PlainBackend::packed_attention(const PackedAttentionArgs& a) {
  plain::packed_attention(a);
}
void PlainBackend::gated_activation(const ActivationArgs& a) {
  plain::gated_activation(a);
}
void PlainBackend::activation(const ActivationArgs& a) {
  plain::activation(a);
}
void PlainBackend::experts(const Batch& b, const ExpertsArgs& a) {
  plain::experts(b, a);
}
void PlainBackend::gather(const Batch& b, const GatherArgs& a) {
  plain::gather(b, a);
}

std::unique_ptr<Backend> open_plain_backend() {
  return std::make_unique<PlainBackend>("plain", "plain reference");
}

}  // namespace troupe::cpu
