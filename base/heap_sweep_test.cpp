// What a burst leaves with idle threads goes back: the chunks that malloc keeps for each of them, and the
// end of a heap that is no longer the first thread's.
#include "base/heap_sweep.hpp"

#include <gtest/gtest.h>
#include <malloc.h>

#include <array>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace troupe {
namespace {

constexpr size_t kKiB = 1024;

size_t heap_in_use() { return mallinfo2().uordblks; }

int64_t resident_kib() {
  std::ifstream in("/proc/self/smaps_rollup");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("Rss:")) return std::atoll(line.c_str() + 4);
  }
  return 0;
}

// Sanitizers bring a malloc of their own, of which mallinfo2() knows nothing.
bool malloc_is_glibcs() {
  const size_t before = heap_in_use();
  const std::vector<char> block(64 * kKiB);
  return heap_in_use() >= before + block.size();
}

// A thread that does as it is told and otherwise waits, like ours.
class Idler {
 public:
  ~Idler() {
    tell(nullptr);
    thread_.join();
  }
  // Runs it there, and returns when it is done.
  void tell(std::function<void()> word) {
    std::unique_lock lock(mutex_);
    word_ = std::move(word);
    told_ = true;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !told_ || !word_; });
  }

 private:
  void listen() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return told_; });
      if (!word_) return;
      word_();
      told_ = false;
      changed_.notify_all();
    }
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void()> word_;
  bool told_ = false;
  std::thread thread_{[this] { listen(); }};
};

void fill_the_cache() {
  std::array<void*, 448> chunks{};
  for (size_t i = 0; i < chunks.size(); ++i) chunks[i] = std::malloc(24 + i / 7 * 16);
  for (void* chunk : chunks) std::free(chunk);
}

TEST(HeapSweep, TakesWhatMallocKeepsForIdleThreads) {
  if (!malloc_is_glibcs()) GTEST_SKIP() << "another malloc";
  HeapSweep sweep;
  std::array<Idler, 3> idlers;
  const size_t before = heap_in_use();
  for (Idler& idler : idlers) idler.tell(fill_the_cache);
  const size_t kept = heap_in_use() - before;
  ASSERT_GT(kept, 3 * 200 * kKiB);  // else there is nothing to test
  sweep.begin(idlers.size());
  for (Idler& idler : idlers) idler.tell([&] { sweep.collect(); });
  EXPECT_LT(heap_in_use(), before + kept / 20);
}

TEST(HeapSweep, GivesTheEndOfAThreadsHeapBack) {
  if (!malloc_is_glibcs()) GTEST_SKIP() << "another malloc";
  constexpr size_t kBurst = 2 * kKiB * kKiB, kPiece = 2 * kKiB;
  void* volatile large = std::malloc(16 * kKiB * kKiB);
  std::free(large);  // glibc then keeps the ends of heaps up to 32 MiB
  HeapSweep sweep;
  Idler idler;
  const int64_t before = resident_kib();
  idler.tell([] {
    std::vector<void*> pieces;
    for (size_t i = 0; i < kBurst / kPiece; ++i) {
      pieces.push_back(std::malloc(kPiece));
      std::memset(pieces.back(), 1, kPiece);
    }
    for (void* piece : pieces) std::free(piece);
  });
  malloc_trim(0);
  ASSERT_GT(resident_kib(), before + 1500);  // trimming alone is not enough
  sweep.begin(1);
  idler.tell([&] { sweep.collect(); });
  EXPECT_LT(resident_kib(), before + 500);
}

TEST(HeapSweep, WaitsForNobodyWhoNeverComes) {
  HeapSweep sweep;
  sweep.begin(2);
  std::thread([&] { sweep.collect(); }).join();  // of two; what it left is freed with the next sweep
  sweep.begin(1);
  sweep.collect();
  sweep.collect();  // unasked: at once
}

}  // namespace
}  // namespace troupe
