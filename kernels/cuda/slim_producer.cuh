// How slim_gemm's weights and inputs come into shared memory: what a block works on next, where a
// step's bytes lie there, and the warp that asks for them.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/ring.cuh"
#include "kernels/cuda/ptx/tma.cuh"
#include "kernels/cuda/skinny_sums.cuh"
#include "kernels/cuda/slim_weight.hpp"

namespace troupe::cuda::slim {

struct SlimParams : skinny::Params {
  const uint8_t* blocks;
  const uint32_t* list;  // of values outside their blocks' windows
  int along, strips_all;  // blocks of the weight along k, and strips
  uint32_t input_bytes;  // that come for a step
};

constexpr int kNone = -1;

// Stages in shared memory: all inputs first, whose rows the swizzle wants aligned, then all
// weights.
template <int kN, int kBoxes>
struct Stages {
  static constexpr int kInputBox = kN * 128, kInput = kBoxes * kInputBox;
  __host__ __device__ Stages(int count, int strips)
      : count(count), weight(strips * kBoxes * kSlimBlock) {}
  __host__ __device__ int bytes() const { return count * (kInput + weight); }
  [[nodiscard]] __device__ int input_at(int slot) const { return slot * kInput; }
  [[nodiscard]] __device__ int weight_at(int slot) const { return count * kInput + slot * weight; }
  int count, weight;
};

// What a chunk is: some strips by some steps.
struct Chunk {
  __device__ Chunk(const SlimParams& p, int chunk)
      : strip(chunk / p.parts * p.strips),
        strips(min(p.strips, p.strips_all - strip)),
        first(p.steps * (chunk % p.parts) / p.parts),
        end(p.steps * (chunk % p.parts + 1) / p.parts) {}
  int strip, strips, first, end;
};

// The warp that starts copies, chunk after chunk: a lane for each strip, so that many small copies
// are asked for at once.
template <int kN, int kBoxes>
class Producer {
 public:
  __device__ Producer(const SlimParams& p, const CUtensorMap& input, uint8_t* stages,
                      uint64_t* full, uint64_t* empty, int* held)
      : p_(p),
        input_(input),
        stages_(stages),
        full_(full),
        empty_(empty),
        held_(held),
        stage_(p.stages, p.strips),
        lane_(static_cast<int>(threadIdx.x) % 32) {}

  __device__ void run() {
    if (lane_ == 0) ptx::prefetch_descriptor(&input_);
    const int chunks = p_.tiles * p_.parts;
    auto number = static_cast<int>(blockIdx.x);
    Chunk chunk(p_, number);
    const int ahead = min(chunk.end - chunk.first, p_.stages);
    for (int i = 0; i < ahead; ++i) load_weight(i, number, chunk, chunk.first + i);
    ptx::wait_for_earlier_kernels();
    for (int i = 0; i < ahead; ++i) {
      load_input(i, chunk.first + i);
      advance();
    }
    int step = chunk.first + ahead;
    for (;;) {
      // Asked for before it is needed: the answer takes as long as a step.
      int next = 0;
      if (lane_ == 0) next = skinny::next_chunk(p_);
      for (; step < chunk.end; ++step) {
        const int slot = free_slot();
        load_weight(slot, number, chunk, step);
        load_input(slot, step);
        advance();
      }
      number = __shfl_sync(0xffffffff, next, 0);
      if (number >= chunks) break;
      chunk = Chunk(p_, number);
      step = chunk.first;
    }
    const int slot = free_slot();
    if (lane_ != 0) return;
    held_[slot] = kNone;
    ptx::mbarrier_arrive(full_ + slot);
    skinny::take_no_more(p_);
  }

 private:
  __device__ __forceinline__ void advance() {
    at_.next(p_.stages);
    fresh_ = fresh_ && at_.slot != 0;
  }
  __device__ __forceinline__ int free_slot() {
    if (!fresh_) ptx::mbarrier_wait(empty_ + at_.slot, at_.parity ^ 1);
    __syncwarp();
    return at_.slot;
  }
  __device__ __forceinline__ void load_weight(int slot, int number, const Chunk& chunk, int step) {
    constexpr int kBytes = kBoxes * kSlimBlock;
    if (lane_ == 0) {
      held_[slot] = number;
      ptx::mbarrier_expect_bytes(full_ + slot,
                                 static_cast<uint32_t>(chunk.strips * kBytes) + p_.input_bytes);
    }
    __syncwarp();
    if (lane_ >= chunk.strips) return;
    const int64_t block = int64_t{chunk.strip + lane_} * p_.along + int64_t{step} * kBoxes;
    ptx::load_row(stages_ + stage_.weight_at(slot) + lane_ * kBytes, p_.blocks + block * kSlimBlock,
                  kBytes, full_ + slot, ptx::kEvictFirst);
  }
  __device__ __forceinline__ void load_input(int slot, int step) {
    if (lane_ >= kBoxes) return;
    ptx::load_box(stages_ + stage_.input_at(slot) + lane_ * stage_.kInputBox, &input_, full_ + slot,
                  ptx::kEvictNormal, (step * kBoxes + lane_) * 64, 0);
  }

  const SlimParams& p_;
  const CUtensorMap& input_;
  uint8_t* stages_;
  uint64_t *full_, *empty_;
  int* held_;
  Stages<kN, kBoxes> stage_;
  const int lane_;
  ptx::RingPlace at_;
  bool fresh_ = true;  // the ring has not been round yet: stages are free without waiting
};

}  // namespace troupe::cuda::slim
