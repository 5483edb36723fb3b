// Cross-attention: text rows look at encoder rows (an image's), whose keys and values were written
// into the cache once, by encode(). A sequence without encoder rows gets zeros.
#include "models/layers/layer.hpp"

namespace troupe::models {
namespace {

class CrossLayer final : public Sublayer {
 public:
  CrossLayer(const Cross& spec, CachePlace place) : spec_(spec), place_(place) {}

  Status load(WeightLoader& loader) {
    heads_ = spec_.heads / loader.ranks();
    kv_heads_ = rank_heads(spec_.kv_heads, loader.ranks());
    TR_ASSIGN(q_, loader.linear(spec_.q));
    TR_ASSIGN(kv_, loader.linear(spec_.kv));
    TR_ASSIGN(out_, loader.linear(spec_.out));
    TR_ASSIGN(q_norm_, load_norm(spec_.q_norm, loader));
    TR_ASSIGN(k_norm_, load_norm(spec_.k_norm, loader));
    return ok_status();
  }

  size_t scratch_bytes(int64_t rows, DType activation) const override {
    Scratch scratch;
    scratch.take(rows, int64_t{heads_} * spec_.head_dim, activation);
    scratch.take(rows, int64_t{heads_} * spec_.head_dim, activation);
    return scratch.used();
  }
  size_t encode_bytes(DType activation) const override {
    Scratch scratch;
    scratch.take(spec_.encoder_rows, int64_t{2} * kv_heads_ * spec_.head_dim, activation);
    return scratch.used();
  }

  void encode(Step& step, int32_t sequence, const Matrix& states) override {
    const int64_t width = int64_t{kv_heads_} * spec_.head_dim;
    const Matrix kv = step.scratch.take(states.rows, 2 * width, step.activation);
    const Matrix key = kv.columns(0, width);
    step.backend.linear(step.batch, {.input = states, .weight = &kv_.text, .output = kv});
    if (k_norm_) k_norm_.run(step.backend, key, {}, key);
    step.backend.cross_write(step.batch, {.sequence = sequence,
                                          .key = key,
                                          .value = kv.columns(width, width),
                                          .cache = step.caches[static_cast<size_t>(place_.group)],
                                          .layer = place_.layer,
                                          .group = place_.group});
  }

  void run(Step& step, const Matrix& input, const Matrix& output) override {
    const int64_t width = int64_t{heads_} * spec_.head_dim;
    const Matrix query = step.scratch.take(input.rows, width, step.activation);
    const Matrix attended = step.scratch.take(input.rows, width, step.activation);
    run_linear(step, q_, input, query);
    if (q_norm_) q_norm_.run(step.backend, query, {}, query);
    step.backend.attention(step.batch, {.query = query,
                                        .cache = step.caches[static_cast<size_t>(place_.group)],
                                        .layer = place_.layer,
                                        .group = place_.group,
                                        .span = AttentionSpan::cross,
                                        .heads = heads_,
                                        .scale = spec_.scale,
                                        .alibi_slopes = {},
                                        .sinks = {},
                                        .output = attended});
    run_linear(step, out_, attended, output);
  }

 private:
  const Cross& spec_;
  CachePlace place_;
  int32_t heads_ = 0, kv_heads_ = 0;
  PlacedLinear q_, kv_, out_;
  PlacedNorm q_norm_, k_norm_;
};

}  // namespace

Result<std::unique_ptr<Sublayer>> load_mixer(const Cross& spec, CachePlace place,
                                             WeightLoader& loader) {
  auto layer = std::make_unique<CrossLayer>(spec, place);
  TR_TRY(layer->load(loader));
  return std::unique_ptr<Sublayer>(std::move(layer));
}

}  // namespace troupe::models
