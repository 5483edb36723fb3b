// What wide_gemm's blocks work on: tiles and parts of tiles, in which order, where they lie. (What
// becomes of their sums: wide_sums.cuh.)
#pragma once

#include <cstdint>

#include "kernels/cuda/gemm_operands.hpp"

namespace troupe::cuda::wide {

constexpr int kTileRows = 128;  // of the weight, a block's
constexpr int kConsumers = 256;
constexpr int kColumnsTogether = 8;  // tiles of input rows that share the weight in L2

struct Params {
  int m, n, steps;
  int columns, stacks;  // tiles of input rows; stacks of a cluster's tiles of weight rows
  int tiles;  // stacks x columns: what a cluster takes at a time
  int cluster;  // blocks of a cluster
  int clusters;
  int cut_tiles;  // the first tiles are cut along k ...
  int shares;  // ... over so many clusters
  bool shared_out;  // all their parts alike
  const void* bias;
  void* output;
  int64_t output_stride;
  GreedyRow* likeliest;
  float4* partials;
  uint32_t* counters;  // two per cut tile and block of its cluster: parts left, parts read
  bool output_f32;
};

// A part of a tile along k. Part 0 begins at 0.
struct Segment {
  int tile, begin, end;
  int first, parts, part;  // the cluster that has part 0; how many parts there are
};

// The segments of a cluster: its share of the tiles that are cut, then whole tiles.
class Walk {
 public:
  __device__ explicit Walk(const Params& p)
      : p_(p), cluster_(static_cast<int>(blockIdx.x) / p.cluster) {
    if (cluster_ >= p.shares) return;
    const int all = p.cut_tiles * p.steps;
    at_ = cluster_ * all / p.shares;
    end_ = (cluster_ + 1) * all / p.shares;
  }

  __device__ bool next(Segment& s) {
    if (at_ < end_) {
      s.tile = at_ / p_.steps;
      s.begin = at_ - s.tile * p_.steps;
      s.end = min(p_.steps, s.begin + end_ - at_);
      s.first = cluster_of(s.tile * p_.steps);
      s.parts = cluster_of((s.tile + 1) * p_.steps - 1) - s.first + 1;
      s.part = cluster_ - s.first;
      at_ += s.end - s.begin;
      return true;
    }
    s = {p_.cut_tiles + round_ * p_.clusters + cluster_, 0, p_.steps, cluster_, 1, 0};
    ++round_;
    return s.tile < p_.tiles;
  }

 private:
  // Whose share a step of the cut tiles is in.
  __device__ int cluster_of(int step) const {
    return ((step + 1) * p_.shares - 1) / (p_.cut_tiles * p_.steps);
  }
  const Params& p_;
  const int cluster_;
  int at_ = 0, end_ = 0, round_ = 0;  // shares x steps of cut tiles fit 32 bits
};

// Where a tile lies. Some columns go through all rows together, so that both operands of the tiles
// under way stay in L2.
struct Place {
  int row, column;  // the block's first weight row; the tile's first input row
};
template <int kN>
__device__ __forceinline__ Place place_of(const Params& p, int tile, int rank) {
  const int in_group = p.stacks * kColumnsTogether;
  const int group = tile / in_group, rest = tile - group * in_group;
  const int width = min(kColumnsTogether, p.columns - group * kColumnsTogether);
  const int stack = rest / width;
  return {(stack * p.cluster + rank) * kTileRows,
          (group * kColumnsTogether + rest - stack * width) * kN};
}

// The steps of a cluster, one after the other.
template <int kN>
class Steps {
 public:
  __device__ Steps(const Params& p, int rank) : place(), p_(p), rank_(rank), walk_(p) {}
  __device__ __forceinline__ bool next() {
    if (++step < segment_.end) return true;
    if (!walk_.next(segment_)) return false;
    place = place_of<kN>(p_, segment_.tile, rank_);
    step = segment_.begin;
    return true;
  }
  Place place;
  int step = 0;

 private:
  const Params& p_;
  const int rank_;
  Walk walk_;
  Segment segment_ = {};
};

}  // namespace troupe::cuda::wide
