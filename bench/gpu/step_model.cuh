// The dense models of the step bench: their shapes, and random weights of one of them.
#pragma once

#include <cmath>

#include "bench/gpu/measure.cuh"

namespace troupe::bench {

struct Shape {
  const char* name;
  int layers, hidden, inner, heads, kv_heads, dim, vocab;
};
constexpr Shape kEight = {"8B", 32, 4096, 14336, 32, 8, 128, 128256};
constexpr Shape kOne = {"1B", 16, 2048, 8192, 32, 8, 64, 128256};

struct Layer {
  Memory qkv, o, gate_up, down, norm1, norm2;
};

inline size_t elements(int a, int b) {
  return static_cast<size_t>(a) * static_cast<size_t>(b);
}

inline Memory frequencies(int dim) {
  std::vector<float> f(static_cast<size_t>(dim / 2));
  for (int i = 0; i < dim / 2; ++i)
    f[static_cast<size_t>(i)] =
        std::pow(500000.0F, -2.0F * static_cast<float>(i) / static_cast<float>(dim));
  return Memory::copy(f);
}

struct Model {
  explicit Model(const Shape& s);
  Shape shape;
  std::vector<Layer> layers;
  Memory embedding, head, final_norm, frequencies;
};

inline Model::Model(const Shape& s)
    : shape(s),
      embedding(Memory::random(elements(s.vocab, s.hidden), 0.02F, 1)),
      head(Memory::random(elements(s.vocab, s.hidden), 0.02F, 2)),
      final_norm(Memory::random(elements(1, s.hidden), 1.0F, 3)),
      frequencies(bench::frequencies(s.dim)) {
  const int q = s.heads * s.dim, qkv = q + 2 * s.kv_heads * s.dim;
  for (int l = 0; l < s.layers; ++l) {
    const auto seed = static_cast<uint32_t>(100 + l * 8);
    layers.push_back({Memory::random(elements(qkv, s.hidden), 0.02F, seed),
                      Memory::random(elements(s.hidden, q), 0.02F, seed + 1),
                      Memory::random(elements(2 * s.inner, s.hidden), 0.02F, seed + 2),
                      Memory::random(elements(s.hidden, s.inner), 0.02F, seed + 3),
                      Memory::random(elements(1, s.hidden), 1.0F, seed + 4),
                      Memory::random(elements(1, s.hidden), 1.0F, seed + 5)});
  }
}

}  // namespace troupe::bench
