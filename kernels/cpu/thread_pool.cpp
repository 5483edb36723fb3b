#include "kernels/cpu/thread_pool.hpp"

#include <pthread.h>
#include <sched.h>

#include <algorithm>

#include "base/assert.hpp"
#include "base/relax.hpp"

namespace troupe::cpu {
namespace {

constexpr uint64_t kField = 20;
constexpr uint64_t kFieldMask = (uint64_t{1} << kField) - 1;
constexpr int64_t kChunksMax = int64_t{1} << 19;  // leaves room for claims beyond the last
// About 100 us of spinning: longer than any gap between the ops of a step.
constexpr int32_t kSpins = 3000;
// A finished op whose last chunk is on a thread that lost its core: let that thread have ours.
constexpr int32_t kSpinsBeforeYield = 20000;

uint64_t next_of(uint64_t ticket) { return ticket & kFieldMask; }
uint64_t chunks_of(uint64_t ticket) { return (ticket >> kField) & kFieldMask; }

void pin(pthread_t thread, int32_t core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(core), &set);
  pthread_setaffinity_np(thread, sizeof set, &set);  // best effort: a forbidden core stays unpinned
}

}  // namespace

ThreadPool::ThreadPool(int32_t threads, std::vector<int32_t> cores) {
  TR_ASSERT(threads >= 1);
  workers_.reserve(static_cast<size_t>(threads - 1));
  for (int32_t t = 1; t < threads; ++t) {
    workers_.emplace_back([this, t] { work(t); });
    pthread_setname_np(workers_.back().native_handle(), ("cpu." + std::to_string(t)).c_str());
    if (static_cast<size_t>(t) < cores.size()) {
      pin(workers_.back().native_handle(), cores[static_cast<size_t>(t)]);
    }
  }
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  bell_.fetch_add(1);
  bell_.notify_all();
  for (std::thread& w : workers_) w.join();
}

int64_t ThreadPool::chunk_count(int64_t count, int64_t grain) {
  return std::clamp<int64_t>((count + grain - 1) / std::max<int64_t>(grain, 1), 1, kChunksMax);
}

void ThreadPool::run_erased(int64_t chunks, Function function, void* context) {
  TR_ASSERT(chunks >= 0 && chunks <= kChunksMax);
  if (chunks <= 1 || workers_.empty()) {
    for (int64_t c = 0; c < chunks; ++c) function(context, static_cast<int32_t>(c), 0);
    return;
  }
  job_ = {function, context};
  done_.store(0, std::memory_order_relaxed);
  const uint64_t job = (ticket_.load(std::memory_order_relaxed) >> (2 * kField)) + 1;
  ticket_.store((job << (2 * kField)) | (static_cast<uint64_t>(chunks) << kField));
  if (parked_.load() > 0) {  // after the store above: a thread about to park sees the new ticket
    bell_.fetch_add(1);
    bell_.notify_all();
  }
  while (claim_and_run(0)) {
  }
  for (int32_t spins = 0; done_.load(std::memory_order_acquire) < chunks; ++spins) {
    relax();
    if (spins > kSpinsBeforeYield) sched_yield();
  }
}

bool ThreadPool::claim_and_run(int32_t thread) {
  uint64_t ticket = ticket_.load(std::memory_order_relaxed);
  if (next_of(ticket) >= chunks_of(ticket)) return false;
  ticket = ticket_.fetch_add(1, std::memory_order_acq_rel);
  if (next_of(ticket) >= chunks_of(ticket)) return false;
  job_.function(job_.context, static_cast<int32_t>(next_of(ticket)), thread);
  done_.fetch_add(1, std::memory_order_release);
  return true;
}

void ThreadPool::work(int32_t thread) {
  int32_t spins = 0;
  while (!stop_.load(std::memory_order_relaxed)) {
    if (claim_and_run(thread)) {
      spins = 0;
    } else if (++spins < kSpins) {
      relax();
    } else {
      park(bell_.load());
      spins = 0;
    }
  }
}

void ThreadPool::park(uint64_t seen) {
  parked_.fetch_add(1);
  const uint64_t ticket = ticket_.load();
  if (next_of(ticket) >= chunks_of(ticket) && !stop_.load()) {
    bell_.wait(static_cast<uint32_t>(seen));
  }
  parked_.fetch_sub(1);
}

}  // namespace troupe::cpu
