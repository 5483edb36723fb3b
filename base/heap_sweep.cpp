#include "base/heap_sweep.hpp"

#include <malloc.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>
#include <thread>
#include <utility>

namespace troupe {
namespace {

// glibc's defaults: chunks of 32 to 1,040 bytes in steps of 16, of which 8 are its own.
constexpr size_t kSizes = 64, kSmallest = 24, kStep = 16, kOfEachSize = 7;
// Of a heap's end: blocks just below what is mapped by itself. A page of each is touched.
constexpr size_t kBlocks = 24, kBlockBytes = 120 * 1024;

}  // namespace

HeapSweep::~HeapSweep() { give_back(std::move(taken_)); }

void HeapSweep::begin(size_t threads) {
  const std::scoped_lock lock(mutex_);
  missing_ = threads;
}

void HeapSweep::collect() {
  std::array<void*, kSizes * kOfEachSize + kBlocks> mine{};
  for (size_t i = 0; i < mine.size(); ++i) {
    const size_t size = i / kOfEachSize;
    mine[i] = std::malloc(size < kSizes ? kSmallest + size * kStep : kBlockBytes);
  }
  // The one that lies last stays until all others are free: it keeps them from being the end again.
  std::iter_swap(mine.end() - 1, std::max_element(mine.end() - kBlocks, mine.end(), std::less<>()));
  Taken all;
  {
    const std::scoped_lock lock(mutex_);
    taken_.chunks.insert(taken_.chunks.end(), mine.begin(), mine.end() - 1);
    taken_.ends.push_back(mine.back());
    if (missing_ > 0) --missing_;
    if (missing_ > 0) return;
    std::swap(all, taken_);
  }
  give_back(std::move(all));
}

void HeapSweep::give_back(Taken taken) {
  if (taken.chunks.empty()) return;
  std::thread([chunks = std::move(taken.chunks)] {
    for (void* chunk : chunks) std::free(chunk);
  }).join();
  malloc_trim(0);
  for (void* end : taken.ends) std::free(end);
}

}  // namespace troupe
