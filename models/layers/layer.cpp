#include "models/layers/layer.hpp"

namespace troupe::models {

void PlacedNorm::run(Backend& backend, const Matrix& input, const Matrix& residual,
                     const Matrix& output) const {
  backend.norm({.kind = kind,
                .input = input,
                .residual = residual,
                .weight = weight,
                .bias = bias,
                .weight_offset = weight_offset,
                .eps = eps,
                .group = group,
                .output = output});
}

Result<PlacedNorm> load_norm(const NormSpec& spec, WeightLoader& loader) {
  PlacedNorm out;
  out.kind = spec.kind;
  out.eps = spec.eps;
  out.weight_offset = spec.weight_offset;
  out.group = spec.group;
  TR_ASSIGN(out.weight, loader.matrix(spec.weight));
  TR_ASSIGN(out.bias, loader.matrix(spec.bias));
  return out;
}

void run_linear(Step& step, const PlacedLinear& weight, const Matrix& input, const Matrix& output) {
  const bool split = weight.vision && step.vision_rows;
  step.backend.linear(step.batch, {.input = input,
                                   .weight = &weight.text,
                                   .select = split ? RowSelect::text : RowSelect::all,
                                   .output = output});
  if (!split) return;
  step.backend.linear(
      step.batch,
      {.input = input, .weight = &weight.vision, .select = RowSelect::vision, .output = output});
}

}  // namespace troupe::models
