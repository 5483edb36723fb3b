// The plain feed-forward: up, activation (gated or not), down.
#include "models/layers/dense.hpp"

namespace troupe::models {

Status DenseLayer::load(WeightLoader& loader) {
  TR_ASSIGN(up_, loader.linear(spec_.up));
  TR_ASSIGN(down_, loader.linear(spec_.down));
  return ok_status();
}

size_t DenseLayer::scratch_bytes(int64_t rows, DType activation) const {
  Scratch scratch;
  scratch.take(rows, up_.text.out, activation);
  scratch.take(rows, down_.text.in, activation);
  return scratch.used();
}

void DenseLayer::run(Step& step, const Matrix& input, const Matrix& output) {
  const Matrix wide = step.scratch.take(input.rows, up_.text.out, step.activation);
  const Matrix active = step.scratch.take(input.rows, down_.text.in, step.activation);
  run_linear(step, up_, input, wide);
  const ActivationArgs args{.kind = spec_.activation, .input = wide, .output = active};
  if (spec_.gated) {
    step.backend.gated_activation(args);
  } else {
    step.backend.activation(args);
  }
  run_linear(step, down_, active, output);
}

Result<std::unique_ptr<Sublayer>> load_ffn(const Dense& spec, WeightLoader& loader) {
  auto layer = std::make_unique<DenseLayer>(spec);
  TR_TRY(layer->load(loader));
  return std::unique_ptr<Sublayer>(std::move(layer));
}

}  // namespace troupe::models
