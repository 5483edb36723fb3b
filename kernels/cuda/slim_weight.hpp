// A bf16 weight in 12 bits and a little, to the bit: what memory has to give for a product of few
// rows, and that is what such a product takes.
//
// Of bf16's eight bits of exponent a trained weight uses few: within a block of 16 rows by 64
// columns nearly all exponents lie in a window of sixteen. So a value keeps its sign, its seven
// bits of fraction and four of exponent; the window's place stands in the block's head. What lies
// outside is said beside it: up to three values in the head, more of them in a list behind all
// blocks.
//
// A block is 1,552 bytes: three planes of 16 bytes a lane (slim_block.cuh), each lane its values of
// the four matrix fragments of 16 x 16 in the order in which the instruction takes them, then the
// head. Blocks stand strip by strip of 16 rows, each along k. A weight is kept so beside its plain
// form, which many rows are multiplied by.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace troupe::cuda {

constexpr int kSlimRows = 16, kSlimDepth = 64;  // of a block
constexpr int kSlimPlane = 512, kSlimHead = 16, kSlimBlock = 3 * kSlimPlane + kSlimHead;
constexpr int kSlimStrays = 3;  // values outside the window that a head has room for
constexpr int kSlimBehind = 8;  // blocks of zeros behind the last, which may be read with it

struct SlimShape {
  int64_t n = 0, k = 0;  // of the weight
  // Strips are 8 rows of the upper half (gates) and the 8 beside them of the lower.
  bool paired = false;

  [[nodiscard]] constexpr int64_t strips() const { return (n + kSlimRows - 1) / kSlimRows; }
  [[nodiscard]] constexpr int64_t blocks_along() const { return (k + kSlimDepth - 1) / kSlimDepth; }
  [[nodiscard]] constexpr int64_t blocks() const { return strips() * blocks_along(); }
  [[nodiscard]] constexpr size_t list_at() const {
    return static_cast<size_t>(blocks() + kSlimBehind) * kSlimBlock;
  }
  // Of values in the list behind the blocks: most weights need a handful.
  [[nodiscard]] int64_t list_room() const { return blocks() * 2 + 64; }
  [[nodiscard]] size_t bytes() const { return list_at() + static_cast<size_t>(list_room()) * 4; }
};

// n and k any, n a multiple of 16 where it is paired.
bool slim_fits(const SlimShape& shape);
// `listed` (one number on the device, zero before): how many values the list would have to hold; if
// they are more than its room, the weight cannot be kept so. Nor can one with infinities or NaNs,
// which counts as such.
cudaError_t slim_pack(const SlimShape& shape, const void* weight, void* slim, uint32_t* listed,
                      cudaStream_t stream);

}  // namespace troupe::cuda
