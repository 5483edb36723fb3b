// What becomes of wide_gemm's sums: rows on their way out, sums that several blocks share, likeliest
// tokens.
//
// All of this is written out once for every register of sums, and runs once a tile: what counts is
// how little code it is (instructions come from L2 each time).
#pragma once

#include <cstdint>

#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/likeliest.cuh"
#include "kernels/cuda/ptx/mbarrier.cuh"
#include "kernels/cuda/ptx/wgmma.cuh"
#include "kernels/cuda/wide_tile.cuh"

namespace troupe::cuda::wide {

constexpr int kPiece = 32;  // input rows written at a time

// A warpgroup's 32 input rows by 64 weight rows (gated: 32 outputs) on their way out.
template <bool kGated>
struct Staging {
  static constexpr int kColumns = kGated ? 32 : 64, kPieces = kColumns / 8;
  static constexpr int kPitch = kColumns * 2 + 16;
  static constexpr int kBytes = kPiece * kPitch;
};

__device__ __forceinline__ void store_transposed(uint8_t* to, const uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                   ptx::shared_address(to)),
               "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
}

__device__ __forceinline__ void meet_warpgroup(int group) {
  asm volatile("bar.sync %0, 128;" ::"r"(2 + group) : "memory");
}
__device__ __forceinline__ void meet_consumers() {
  asm volatile("bar.sync 1, %0;" ::"n"(kConsumers) : "memory");
}

template <class T, bool kGated>
class Writer {
 public:
  using S = Staging<kGated>;
  __device__ Writer(const Params& p, const Place& place, uint8_t* staging)
      : p_(p),
        first_row_(place.column),
        thread_(static_cast<int>(threadIdx.x) % 128),
        group_(static_cast<int>(threadIdx.x) / 128 - 1) {
    const int lane = thread_ % 32, warp = thread_ / 32, width = kGated ? p.n / 2 : p.n;
    const int first = (kGated ? place.row / 2 : place.row) + group_ * S::kColumns;
    own_ = first + warp * (kGated ? 8 : 16) + lane / 4;
    staging += group_ * S::kBytes;
    put_ = kGated
               ? staging + lane * S::kPitch + warp * 16
               : staging + (lane / 16 * 8 + lane % 8) * S::kPitch + warp * 32 + (lane / 8 & 1) * 16;
    const int piece = thread_ % S::kPieces;
    row_ = thread_ / S::kPieces;
    take_ = staging + row_ * S::kPitch + piece * 16;
    inside_ = first + piece * 8 < width;
    to_ = static_cast<T*>(p.output) + (first_row_ + row_) * p.output_stride + first + piece * 8;
    if (p.bias == nullptr) return;
    const auto* bias = static_cast<const T*>(p.bias);
    const int other = kGated ? own_ + width : own_ + 8;
    if (own_ < width) bias_[0] = to_float(bias[own_]);
    if (own_ < width && other < p.n) bias_[1] = to_float(bias[other]);
  }

  // v: four blocks of 8 input rows; each thread holds two of its weight rows by two input rows.
  __device__ __forceinline__ void write(int piece, const float* v) {
    const int row = first_row_ + piece * kPiece;
    if (row >= p_.m) return;
    if (!kGated && p_.output_f32) return write_f32(row, v);
    if constexpr (kGated) {
      uint32_t r[4];
#pragma unroll
      for (int j = 0; j < 4; ++j)
        r[j] = pack<T>(gated(v[j * 4], v[j * 4 + 2]), gated(v[j * 4 + 1], v[j * 4 + 3]));
      store_transposed(put_, r);
    } else {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        uint32_t r[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float* from = v + j * 8 + i * 2;
          r[i] = pack<T>(from[0] + bias_[i & 1], from[1] + bias_[i & 1]);
        }
        store_transposed(put_ + j * 16 * S::kPitch, r);
      }
    }
    meet_warpgroup(group_);
    constexpr int kRowsAtOnce = 128 / S::kPieces;
#pragma unroll
    for (int i = 0; i < kPiece; i += kRowsAtOnce) {
      if (row + row_ + i < p_.m && inside_) {
        *reinterpret_cast<uint4*>(to_ + (piece * kPiece + i) * p_.output_stride) =
            *reinterpret_cast<const uint4*>(take_ + i * S::kPitch);
      }
    }
    meet_warpgroup(group_);
  }

 private:
  __device__ __forceinline__ float gated(float gate, float up) const {
    gate += bias_[0];
    return __fdividef(gate * (up + bias_[1]), 1.0F + __expf(-gate));
  }
  __device__ __forceinline__ void write_f32(int row, const float* v) const {
    row += thread_ % 4 * 2;
    float* to = static_cast<float*>(p_.output) + row * p_.output_stride + own_;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const int at = i / 4 * 8 + (i & 1), half = i / 2 & 1;
      if (row + at < p_.m && own_ + half * 8 < p_.n)
        to[at * p_.output_stride + half * 8] = v[i] + bias_[half];
    }
  }

  const Params& p_;
  const int first_row_, thread_, group_;
  uint8_t *put_, *take_;
  T* to_;
  int own_, row_;
  bool inside_;
  float bias_[2] = {};
};

__device__ __forceinline__ uint32_t read_shared_count(const uint32_t* counter) {
  uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(counter) : "memory");
  return value;
}

// The parts of a tile meet: each leaves the pieces that are not its own to add up, says so, waits
// for the others, adds. A piece is always added up by the same part, in the same order.
template <int kN>
class Parts {
 public:
  static constexpr int kBlocks = kN / 8, kPieces = kN / kPiece;
  __device__ Parts(const Params& p, const Segment& s, int rank)
      : shared_out_(p.shared_out),
        parts_(s.parts),
        part_(s.part),
        thread_(static_cast<int>(threadIdx.x) - 128),
        stride_(p.cluster * kBlocks * kConsumers),
        counter_(p.counters + (s.tile * p.cluster + rank) * 2) {
    base_ = p.partials + (s.first * p.cluster + rank) * kBlocks * kConsumers + thread_;
  }

  [[nodiscard]] __device__ __forceinline__ bool mine(int piece) const {
    return shared_out_ ? piece * parts_ / kPieces == part_ : part_ == 0;
  }

  __device__ void meet(float (&sum)[kN / 2]) {
    if (shared_out_ || part_ > 0) {
      float4* to = base_ + part_ * stride_;
#pragma unroll
      for (int piece = 0; piece < kPieces; ++piece) {
        if (mine(piece)) continue;
#pragma unroll
        for (int i = piece * 16; i < piece * 16 + 16; i += 4)
          __stcg(to + i / 4 * kConsumers, make_float4(sum[i], sum[i + 1], sum[i + 2], sum[i + 3]));
      }
      signal();
    }
    if (!shared_out_ && part_ > 0) return;
    wait_for(static_cast<uint32_t>(shared_out_ ? parts_ : parts_ - 1));
#pragma unroll 1
    for (int part = 0; part < parts_; ++part) {
      if (part == part_) continue;
      const float4* from = base_ + part * stride_;
#pragma unroll
      for (int piece = 0; piece < kPieces; ++piece) {
        if (!mine(piece)) continue;
#pragma unroll
        for (int i = piece * 16; i < piece * 16 + 16; i += 4) {
          const float4 x = __ldcg(from + i / 4 * kConsumers);
          sum[i] += x.x;
          sum[i + 1] += x.y;
          sum[i + 2] += x.z;
          sum[i + 3] += x.w;
        }
      }
    }
    if (thread_ != 0) return;
    if (!shared_out_) {
      counter_[0] = 0;
    } else if (atomicAdd(counter_ + 1, 1U) + 1 == static_cast<uint32_t>(parts_)) {
      counter_[0] = 0;
      counter_[1] = 0;
    }
  }

 private:
  __device__ void signal() const {
    __threadfence();
    meet_consumers();
    if (thread_ == 0) {
      __threadfence();
      atomicAdd(counter_, 1U);
    }
  }
  __device__ void wait_for(uint32_t parts) const {
    if (thread_ == 0) {
      while (read_shared_count(counter_) < parts) {
      }
      __threadfence();
    }
    meet_consumers();
  }

  const bool shared_out_;
  const int parts_, part_, thread_, stride_;
  uint32_t* counter_;
  float4* base_;
};

// ---- ways out: what a block does with the tiles it completes ----

template <class T, int kN, bool kGated>
class ToOutput {
 public:
  static constexpr int kShared = 2 * Staging<kGated>::kBytes;
  __device__ ToOutput(const Params& p, uint8_t* staging) : p_(p), staging_(staging) {}

  __device__ __forceinline__ void take(const Place& place, const Parts<kN>& parts,
                                       float (&sum)[kN / 2]) {
    Writer<T, kGated> writer(p_, place, staging_);
#pragma unroll
    for (int piece = 0; piece < kN / kPiece; ++piece) {
      if (parts.mine(piece)) writer.write(piece, sum + piece * 16);
    }
  }

 private:
  const Params& p_;
  uint8_t* staging_;
};
template <class T, int kN>
using ToRows = ToOutput<T, kN, false>;
template <class T, int kN>
using ToGatedRows = ToOutput<T, kN, true>;

template <class T, int kN>
class ToLikeliest {
 public:
  static constexpr int kWarps = kConsumers / 32;
  using Found = likeliest::Found<kN>;
  using Known = likeliest::Known<kN>;
  static constexpr int kShared = Found::bytes(kWarps) + Known::kBytes;
  __device__ ToLikeliest(const Params& p, uint8_t* memory)
      : p_(p),
        thread_(static_cast<int>(threadIdx.x) - 128),
        found_(memory, kWarps),
        known_(memory + Found::bytes(kWarps)) {
    found_.clear(thread_);
  }

  __device__ __forceinline__ void take(const Place& place, const Parts<kN>& parts,
                                       float (&sum)[kN / 2]) {
    ptx::wgmma_settled(sum);
    if (place.column != column_) {
      column_ = place.column;
      ask();
    }
    if (thread_ < kN) known_.set(thread_, asked_);
    meet_consumers();
    const int warp = thread_ / 32, token = place.row + warp * 16 + thread_ % 32 / 4;
    const auto pair = likeliest::TokenPair::from(token, p_.n, static_cast<const T*>(p_.bias));
#pragma unroll
    for (int piece = 0; piece < kN / kPiece; ++piece) {
      const int row = piece * kPiece;
      const float* sums = sum + piece * 16;
      if (!parts.mine(piece) || column_ + row >= p_.m || !known_.is_reached(row, sums, pair))
        continue;
      found_.template note<kPiece>(warp, row, sums, pair);
    }
    meet_consumers();
    found_.hand_over(thread_, p_.likeliest + column_, p_.m - column_);
    ask();  // long before the next tile is multiplied
  }

 private:
  __device__ __forceinline__ void ask() {
    if (thread_ < kN && column_ + thread_ < p_.m)
      asked_ = Known::ask(p_.likeliest[column_ + thread_]);
  }

  const Params& p_;
  const int thread_;
  Found found_;
  Known known_;
  int column_ = -1;  // the first input row of the tiles at hand
  uint32_t asked_ = 0;
};

}  // namespace troupe::cuda::wide
