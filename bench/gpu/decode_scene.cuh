// Sequences of one length in a paged cache, and an 8B model's decode attention over them.
#pragma once

#include <algorithm>
#include <vector>

#include "bench/gpu/measure.cuh"
#include "kernels/cuda/attention.hpp"

namespace troupe::bench {

struct Cached {
  int batch, kv_len;
};

// As the cache lays blocks out; where its keys and values lie is for the caller to say.
inline cuda::PagedLayer layer_of(int blocks, int kv_heads, int block_tokens, int dim) {
  return {nullptr,
          nullptr,
          int64_t{kv_heads} * block_tokens * dim,
          int64_t{block_tokens} * dim,
          dim,
          blocks,
          block_tokens,
          kv_heads};
}

class DecodeScene {
 public:
  static constexpr int kHeads = 32, kKvHeads = 8, kDim = 128;

  // share: the positions of a work item; a sequence has as many items as that makes.
  DecodeScene(const Cached& c, int share)
      : blocks_(c.batch * ((c.kv_len + kBlockTokens - 1) / kBlockTokens)),
        layer_elements_(static_cast<size_t>(blocks_) * kBlockTokens * kKvHeads * kDim),
        layers_(std::clamp<size_t>((size_t{1} << 29) / (layer_elements_ * 4), 1, 16)),
        work_(work_of(c, share)),
        keys_(Memory::random(layers_ * layer_elements_, 1.0F, 4)),
        values_(Memory::random(layers_ * layer_elements_, 1.0F, 5)),
        query_(Memory::random(static_cast<size_t>(c.batch) * kHeads * kDim, 1.0F, 6)),
        output_(Memory::zeros(query_.bytes())),
        items_(Memory::copy(work_)),
        count_(Memory::copy(std::vector<int32_t>{static_cast<int32_t>(work_.size())})),
        table_(Memory::copy(scattered(blocks_))),
        partials_(Memory::zeros(work_.size() * kKvHeads * cuda::decode_partials_floats(kDim) * 4)),
        counters_(Memory::zeros(static_cast<size_t>(c.batch * kKvHeads + 2) * 4)) {
    args_.shape.heads = kHeads;
    args_.shape.head_dim = kDim;
    args_.shape.scale = 0.088F;
    args_.layer = layer_of(blocks_, kKvHeads, kBlockTokens, kDim);
    args_.query = query_.as();
    args_.output = output_.as();
    args_.query_stride = args_.output_stride = kHeads * kDim;
    args_.work = items_.as<cuda::DecodeWork>();
    args_.work_count = count_.as<int32_t>();
    args_.blocks = table_.as<int32_t>();
    args_.partials = partials_.as<float>();
    args_.counters = counters_.as<uint32_t>();
  }

  // Layers take turns, so that small caches do not stay in L2.
  void attend(int turn, int multiprocessors, cudaStream_t stream) {
    const size_t begin = static_cast<size_t>(turn) % layers_ * layer_elements_;
    args_.layer.keys = keys_.as<__nv_bfloat16>() + begin;
    args_.layer.values = values_.as<__nv_bfloat16>() + begin;
    check(decode_attention(args_, multiprocessors, stream), "decode_attention");
  }

 private:
  static constexpr int kBlockTokens = 64;

  static std::vector<cuda::DecodeWork> work_of(const Cached& c, int share) {
    const int table = (c.kv_len + kBlockTokens - 1) / kBlockTokens;
    std::vector<cuda::DecodeWork> work;
    for (int s = 0; s < c.batch; ++s) {
      const cuda::AttentionSequence sequence = {s, 1, c.kv_len, s * table, 0, 1};
      const int shares = (c.kv_len + share - 1) / share;
      const auto partial = static_cast<int32_t>(work.size());
      for (int i = 0; i < shares; ++i)
        work.push_back(
            {sequence, i * share, std::min(c.kv_len, (i + 1) * share), i, shares, partial, s});
    }
    return work;
  }
  static std::vector<int32_t> scattered(int blocks) {
    std::vector<int32_t> table(static_cast<size_t>(blocks));
    for (int i = 0; i < blocks; ++i)
      table[static_cast<size_t>(i)] =
          static_cast<int32_t>((static_cast<int64_t>(i) * 7919) % blocks);
    return table;
  }

  const int blocks_;
  const size_t layer_elements_, layers_;
  const std::vector<cuda::DecodeWork> work_;
  const Memory keys_, values_, query_, output_, items_, count_, table_, partials_, counters_;
  cuda::DecodeAttention args_;
};

}  // namespace troupe::bench
