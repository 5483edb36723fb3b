// Grouped-query attention over the paged cache: full or windowed, with rope, ALiBi, norms of q and
// k, soft-capped scores and sinks as the description says.
#include <cmath>

#include "models/layers/layer.hpp"

namespace troupe::models {
namespace {

// Slopes fall geometrically; a number of heads that is no power of two takes every other slope of
// the next power for the rest (Press et al.; the same for every ALiBi model).
std::vector<float> alibi_slopes(int32_t heads) {
  int32_t power = 1;
  while (power * 2 <= heads) power *= 2;
  std::vector<float> out;
  for (int32_t i = 0; i < power; ++i) {
    out.push_back(std::exp2(-8.0F * static_cast<float>(i + 1) / static_cast<float>(power)));
  }
  for (int32_t i = 0; power + i < heads; ++i) {
    out.push_back(std::exp2(-4.0F * static_cast<float>(2 * i + 1) / static_cast<float>(power)));
  }
  return out;
}

class GroupedQueryLayer final : public Sublayer {
 public:
  GroupedQueryLayer(const GroupedQuery& spec, CachePlace place) : spec_(spec), place_(place) {}

  Status load(WeightLoader& loader) {
    heads_ = spec_.heads / loader.ranks();
    kv_heads_ = rank_heads(spec_.kv_heads, loader.ranks());
    TR_ASSIGN(qkv_, loader.linear(spec_.qkv));
    TR_ASSIGN(out_, loader.linear(spec_.out));
    TR_ASSIGN(q_norm_, load_norm(spec_.q_norm, loader));
    TR_ASSIGN(k_norm_, load_norm(spec_.k_norm, loader));
    if (spec_.alibi) {
      const std::vector<float> all = alibi_slopes(spec_.heads);
      const auto mine = std::span(all).subspan(static_cast<size_t>(heads_ * loader.rank()),
                                               static_cast<size_t>(heads_));
      TR_ASSIGN(slopes_, loader.upload(mine, "ALiBi slopes"));
    }
    TR_ASSIGN(sinks_, loader.matrix_f32(spec_.sinks));
    if (sinks_) sinks_ = {sinks_.data, DType::f32, 1, heads_, heads_};
    return ok_status();
  }

  size_t scratch_bytes(int64_t rows, DType activation) const override {
    Scratch scratch;
    lay_out(scratch, rows, activation);
    return scratch.used();
  }

  void run(Step& step, const Matrix& input, const Matrix& output) override {
    const Slots s = lay_out(step.scratch, input.rows, step.activation);
    const int64_t dim = spec_.head_dim;
    const Matrix query = s.qkv.columns(0, heads_ * dim);
    const Matrix key = s.qkv.columns(heads_ * dim, kv_heads_ * dim);
    const Matrix value = s.qkv.columns((heads_ + kv_heads_) * dim, kv_heads_ * dim);
    run_linear(step, qkv_, input, s.qkv);
    if (q_norm_) q_norm_.run(step.backend, query, {}, query);
    if (k_norm_) k_norm_.run(step.backend, key, {}, key);
    KvCache* cache = step.caches[static_cast<size_t>(place_.group)];
    const RopeSpec none;
    const RopeSpec& rope = spec_.rope < 0 ? none : step.ropes[static_cast<size_t>(spec_.rope)];
    step.backend.rope_write(step.batch, {.query = query,
                                         .key = key,
                                         .value = value,
                                         .heads = heads_,
                                         .head_dim = spec_.head_dim,
                                         .rope = &rope,
                                         .cache = cache,
                                         .layer = place_.layer,
                                         .group = place_.group});
    step.backend.attention(step.batch, {.query = query,
                                        .cache = cache,
                                        .layer = place_.layer,
                                        .group = place_.group,
                                        .heads = heads_,
                                        .window = spec_.window,
                                        .scale = spec_.scale,
                                        .softcap = spec_.softcap,
                                        .alibi_slopes = slopes_,
                                        .sinks = sinks_,
                                        .output = s.attended});
    run_linear(step, out_, s.attended, output);
  }

 private:
  struct Slots {
    Matrix qkv, attended;
  };
  Slots lay_out(Scratch& scratch, int64_t rows, DType activation) const {
    const int64_t dim = spec_.head_dim;
    return {scratch.take(rows, (heads_ + 2 * kv_heads_) * dim, activation),
            scratch.take(rows, heads_ * dim, activation)};
  }

  const GroupedQuery& spec_;  // of the folder's description, which the model keeps
  CachePlace place_;
  int32_t heads_ = 0, kv_heads_ = 0;
  PlacedLinear qkv_, out_;
  PlacedNorm q_norm_, k_norm_;
  Matrix slopes_, sinks_;
};

}  // namespace

Result<std::unique_ptr<Sublayer>> load_mixer(const GroupedQuery& spec, CachePlace place,
                                             WeightLoader& loader) {
  auto layer = std::make_unique<GroupedQueryLayer>(spec, place);
  TR_TRY(layer->load(loader));
  return std::unique_ptr<Sublayer>(std::move(layer));
}

}  // namespace troupe::models
