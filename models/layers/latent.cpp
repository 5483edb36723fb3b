// Multi-head latent attention in its absorbed form. The cache keeps one row per token: the
// compressed latent, then the shared rotated key. Instead of expanding it to every head's keys and
// values, queries are taken into the latent space (key_up) and the results out of it (value_up), so
// decoding reads latent_dim + rope_dim numbers per token, whatever the number of heads.
#include "models/layers/layer.hpp"

namespace troupe::models {
namespace {

class LatentLayer final : public Sublayer {
 public:
  LatentLayer(const Latent& spec, CachePlace place) : spec_(spec), place_(place) {}

  Status load(WeightLoader& loader) {
    heads_ = spec_.heads / loader.ranks();
    TR_ASSIGN(q_, loader.linear(spec_.q));
    TR_ASSIGN(q_a_, loader.linear(spec_.q_a));
    TR_ASSIGN(q_a_norm_, load_norm(spec_.q_a_norm, loader));
    TR_ASSIGN(kv_a_, loader.linear(spec_.kv_a));
    TR_ASSIGN(kv_a_norm_, load_norm(spec_.kv_a_norm, loader));
    TR_ASSIGN(key_up_, loader.matrix(spec_.key_up));
    TR_ASSIGN(value_up_, loader.matrix(spec_.value_up));
    TR_ASSIGN(out_, loader.linear(spec_.out));
    return ok_status();
  }

  size_t scratch_bytes(int64_t rows, DType activation) const override {
    Scratch scratch;
    lay_out(scratch, rows, activation);
    return scratch.used();
  }

  void run(Step& step, const Matrix& input, const Matrix& output) override {
    const Slots s = lay_out(step.scratch, input.rows, step.activation);
    make_query(step, input, s);
    make_key(step, input, s);
    KvCache* cache = step.caches[static_cast<size_t>(place_.group)];
    step.backend.rope_write(step.batch, {.query = s.query,
                                         .key = s.key,
                                         .value = {},
                                         .heads = heads_,
                                         .head_dim = key_dim(),
                                         .rotary_begin = spec_.latent_dim,
                                         .rope = &step.ropes[static_cast<size_t>(spec_.rope)],
                                         .cache = cache,
                                         .layer = place_.layer,
                                         .group = place_.group});
    step.backend.attention(step.batch, {.query = s.query,
                                        .cache = cache,
                                        .layer = place_.layer,
                                        .group = place_.group,
                                        .heads = heads_,
                                        .scale = spec_.scale,
                                        .alibi_slopes = {},
                                        .sinks = {},
                                        .output = s.latents});
    step.backend.head_linear({.input = s.latents,
                              .weight = value_up_,
                              .transposed = false,
                              .heads = heads_,
                              .output = s.values});
    run_linear(step, out_, s.values, output);
  }

 private:
  struct Slots {
    Matrix compressed;  // rows x compressed query
    Matrix split;  // rows x heads * (nope + rope)
    Matrix nope;  // rows x heads * nope
    Matrix latents;  // rows x heads * latent: queries on the way in, results on the way out
    Matrix query;  // rows x heads * (latent + rope)
    Matrix key;  // rows x latent + rope
    Matrix values;  // rows x heads * value
  };
  [[nodiscard]] int32_t key_dim() const { return spec_.latent_dim + spec_.rope_dim; }

  Slots lay_out(Scratch& scratch, int64_t rows, DType activation) const {
    const auto take = [&](int64_t cols) { return scratch.take(rows, cols, activation); };
    const int64_t heads = heads_;
    return {take(spec_.q_a ? q_a_.text.out : 0),
            take(heads * (spec_.nope_dim + spec_.rope_dim)),
            take(heads * spec_.nope_dim),
            take(heads * spec_.latent_dim),
            take(heads * key_dim()),
            take(key_dim()),
            take(heads * spec_.value_dim)};
  }

  // Columns [begin, begin + count) of every head, as one row per row and head.
  [[nodiscard]] Matrix per_head(const Matrix& m, int64_t width, int64_t begin,
                                int64_t count) const {
    Matrix heads = m;
    heads.rows = m.rows * heads_;
    heads.stride = width;
    return heads.columns(begin, count);
  }

  void make_query(Step& step, const Matrix& input, const Slots& s) {
    Matrix from = input;
    if (spec_.q_a) {
      run_linear(step, q_a_, input, s.compressed);
      q_a_norm_.run(step.backend, s.compressed, {}, s.compressed);
      from = s.compressed;
    }
    run_linear(step, q_, from, s.split);
    const int64_t width = spec_.nope_dim + spec_.rope_dim;
    const auto copy = [&](const Matrix& a, const Matrix& b) {
      step.backend.add({.input = a, .addend = {}, .scale = 1.0F, .output = b});
    };
    copy(per_head(s.split, width, 0, spec_.nope_dim),
         per_head(s.nope, spec_.nope_dim, 0, spec_.nope_dim));
    step.backend.head_linear({.input = s.nope,
                              .weight = key_up_,
                              .transposed = true,
                              .heads = heads_,
                              .output = s.latents});
    copy(per_head(s.latents, spec_.latent_dim, 0, spec_.latent_dim),
         per_head(s.query, key_dim(), 0, spec_.latent_dim));
    copy(per_head(s.split, width, spec_.nope_dim, spec_.rope_dim),
         per_head(s.query, key_dim(), spec_.latent_dim, spec_.rope_dim));
  }

  void make_key(Step& step, const Matrix& input, const Slots& s) {
    run_linear(step, kv_a_, input, s.key);
    const Matrix latent = s.key.columns(0, spec_.latent_dim);
    kv_a_norm_.run(step.backend, latent, {}, latent);
  }

  const Latent& spec_;
  CachePlace place_;
  int32_t heads_ = 0;
  PlacedLinear q_, q_a_, kv_a_, out_;
  PlacedNorm q_a_norm_, kv_a_norm_;
  Matrix key_up_, value_up_;
};

}  // namespace

Result<std::unique_ptr<Sublayer>> load_mixer(const Latent& spec, CachePlace place,
                                             WeightLoader& loader) {
  auto layer = std::make_unique<LatentLayer>(spec, place);
  TR_TRY(layer->load(loader));
  return std::unique_ptr<Sublayer>(std::move(layer));
}

}  // namespace troupe::models
