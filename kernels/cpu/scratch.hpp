// Working memory of the ops, one area per use. An area grows to the largest size ever asked for and
// is then kept, so steady work allocates nothing. Asked for by the executor's thread only, before
// the pool's threads use it; asking again for the same use may move it.
#pragma once

#include <sys/mman.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "base/assert.hpp"

namespace troupe::cpu {

enum class Use : uint8_t {
  linear_inputs,
  linear_panels,
  row_list,
  wide_vector,
  mixed_rows,
  rope,
  attention_tasks,
  attention_threads,
  norm_weight,
  norm_bias,
  part_bias,
  routing_scores,
  routing_order,
  expert_lists,
  expert_weights,
  expert_gate_up,
  expert_inner,
  expert_output,
  sample_rows,
  sample_threads,
  count_
};

class Scratch {
 public:
  template <class T>
  T* get(Use use, int64_t count) {
    return static_cast<T*>(bytes(use, static_cast<size_t>(count) * sizeof(T)));
  }

 private:
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  struct Area {
    std::unique_ptr<void, Free> data;
    size_t bytes = 0;
  };
  void* bytes(Use use, size_t wanted) {
    Area& area = areas_[static_cast<size_t>(use)];
    if (wanted > area.bytes || !area.data) grow(area, wanted + wanted / 4);
    return area.data.get();
  }
  // Large areas lie in huge pages: a pass over packed inputs would else wait for the page tables.
  static void grow(Area& area, size_t wanted) {
    constexpr size_t kLine = 64;
    constexpr size_t kHuge = size_t{2} << 20;
    const size_t unit = wanted >= 2 * kHuge ? kHuge : kLine;
    const size_t size = (wanted + unit) / unit * unit;
    area.data.reset();
    area.data.reset(std::aligned_alloc(unit, size));
    TR_ASSERT(area.data != nullptr);
    if (unit == kHuge) madvise(area.data.get(), size, MADV_HUGEPAGE);
    area.bytes = size;
  }
  std::array<Area, static_cast<size_t>(Use::count_)> areas_;
};

}  // namespace troupe::cpu
