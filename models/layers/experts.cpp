// A mixture of experts: each row goes through the experts that the router chooses, and through the
// shared one where there is one. With tensor parallelism every rank has a slice of every expert
// (balanced whatever the routing); the router is whole on every rank, so all choose alike.
#include <optional>

#include "models/layers/dense.hpp"
#include "models/layers/layer.hpp"

namespace troupe::models {
namespace {

class ExpertsLayer final : public Sublayer {
 public:
  explicit ExpertsLayer(const Experts& spec) : spec_(spec), routing_(spec.routing) {}

  Status load(WeightLoader& loader) {
    TR_ASSIGN(router_, loader.linear(spec_.router));
    TR_ASSIGN(routing_.correction, loader.matrix_f32(spec_.correction));
    for (const LinearSpec& expert : spec_.up) {
      TR_ASSIGN(PlacedLinear placed, loader.linear(expert));
      up_.push_back(std::move(placed.text));
    }
    for (const LinearSpec& expert : spec_.down) {
      TR_ASSIGN(PlacedLinear placed, loader.linear(expert));
      down_.push_back(std::move(placed.text));
    }
    if (spec_.shared) {
      shared_.emplace(*spec_.shared);
      TR_TRY(shared_->load(loader));
      TR_ASSIGN(shared_gate_, loader.linear(spec_.shared_gate));
    }
    return ok_status();
  }

  size_t scratch_bytes(int64_t rows, DType activation) const override {
    Scratch scratch;
    scratch.take(rows, spec_.routing.experts, DType::f32);
    if (!shared_) return scratch.used();
    scratch.take(rows, 1, DType::f32);
    scratch.take(rows, down_.front().out, activation);
    return scratch.used() + shared_->scratch_bytes(rows, activation);
  }

  void run(Step& step, const Matrix& input, const Matrix& output) override {
    const Matrix logits = step.scratch.take(input.rows, spec_.routing.experts, DType::f32);
    run_linear(step, router_, input, logits);
    step.backend.experts(step.batch, {.input = input,
                                      .router_logits = logits,
                                      .routing = &routing_,
                                      .gate_up = up_,
                                      .down = down_,
                                      .first_expert = 0,
                                      .activation = spec_.activation,
                                      .forced = step.forced,
                                      .output = output});
    if (!shared_) return;
    const Matrix gate = step.scratch.take(input.rows, 1, DType::f32);
    const Matrix beside = step.scratch.take(input.rows, output.cols, step.activation);
    if (shared_gate_.text) {
      run_gated_shared(step, input, gate, beside);
    } else {
      shared_->run(step, input, beside);
    }
    step.backend.add({.input = beside, .addend = output, .scale = 1.0F, .output = output});
  }

 private:
  // A shared expert weighed by a sigmoid is a mixture of one.
  void run_gated_shared(Step& step, const Matrix& input, const Matrix& gate, const Matrix& output) {
    run_linear(step, shared_gate_, input, gate);
    step.backend.experts(step.batch, {.input = input,
                                      .router_logits = gate,
                                      .routing = &kGate,
                                      .gate_up = {&shared_->up().text, 1},
                                      .down = {&shared_->down().text, 1},
                                      .first_expert = 0,
                                      .activation = spec_.shared->activation,
                                      .forced = {},
                                      .output = output});
  }

  static inline const RoutingSpec kGate{
      .score = RouterScore::sigmoid, .experts = 1, .top_k = 1, .correction = {}};
  const Experts& spec_;
  RoutingSpec routing_;
  PlacedLinear router_, shared_gate_;
  std::vector<LinearWeight> up_, down_;
  std::optional<DenseLayer> shared_;
};

}  // namespace

Result<std::unique_ptr<Sublayer>> load_ffn(const Experts& spec, WeightLoader& loader) {
  auto layer = std::make_unique<ExpertsLayer>(spec);
  TR_TRY(layer->load(loader));
  return std::unique_ptr<Sublayer>(std::move(layer));
}

}  // namespace troupe::models
