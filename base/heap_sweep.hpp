// The heap of a process that rests.
//
// glibc's malloc keeps memory in two places where malloc_trim() does not reach it. With every thread lie the
// chunks that it freed last, up to seven of each small size; a request's pieces are made by one thread and
// freed by another, so a burst leaves such chunks on hundreds of pages, other ones each time. And the end
// of a heap, which every thread but the first has of its own, is given back only beyond a threshold that
// grows. Either way a process that holds nothing seems to grow with every burst.
// So each idle thread hands over what malloc keeps for it and a stretch of its heap's end; the last one
// has all of it freed by a thread that ends, whose own chunks are given back with it, and then trims.
// Another malloc is done no harm.
#pragma once

#include <cstddef>
#include <mutex>
#include <vector>

namespace troupe {

// Thread-safe.
class HeapSweep {
 public:
  HeapSweep() = default;
  ~HeapSweep();
  HeapSweep(const HeapSweep&) = delete;
  HeapSweep& operator=(const HeapSweep&) = delete;

  // So many threads are going to call collect().
  void begin(size_t threads);
  // Takes what malloc keeps for the calling thread: some 50 us. The last one gives everything back:
  // milliseconds. What those left who never came goes with the next sweep.
  void collect();

 private:
  struct Taken {
    std::vector<void*> chunks, ends;
  };
  static void give_back(Taken taken);

  std::mutex mutex_;
  Taken taken_;
  size_t missing_ = 0;
};

}  // namespace troupe
