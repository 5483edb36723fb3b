// The threads of one CPU device. The executor's thread is number 0 and takes part; the others spin
// for a moment after each piece of work, so that the next op starts within a microsecond or two,
// and then park, so that an idle engine uses no CPU.
//
// A job is a number of chunks. Threads claim chunks one by one, so a thread that the system has
// put aside delays nobody: whoever is awake takes the rest. run() returns when every chunk is done.
// What a chunk computes must not depend on which thread computes it.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace troupe::cpu {

class ThreadPool {
 public:
  // `cores`: where to pin threads 1..n-1 (entry i for thread i); empty: wherever the system likes.
  ThreadPool(int32_t threads, std::vector<int32_t> cores);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int32_t threads() const { return static_cast<int32_t>(workers_.size()) + 1; }

  // body(chunk, thread) for every chunk in [0, chunks). Called by one thread at a time.
  template <class Body>
  void run(int64_t chunks, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run_erased(
        chunks,
        [](void* context, int32_t chunk, int32_t thread) {
          (*static_cast<Plain*>(context))(chunk, thread);
        },
        const_cast<std::remove_const_t<Plain>*>(&body));
  }

  // body(begin, end, thread) over [0, count) in pieces of about `grain`.
  template <class Body>
  void for_range(int64_t count, int64_t grain, Body&& body) {
    if (count <= 0) return;
    const int64_t chunks = chunk_count(count, grain);
    run(chunks, [&](int32_t chunk, int32_t thread) {
      const int64_t begin = count * chunk / chunks;
      const int64_t end = count * (chunk + 1) / chunks;
      if (begin < end) body(begin, end, thread);
    });
  }

 private:
  using Function = void (*)(void* context, int32_t chunk, int32_t thread);
  static int64_t chunk_count(int64_t count, int64_t grain);
  void run_erased(int64_t chunks, Function function, void* context);
  void work(int32_t thread);
  bool claim_and_run(int32_t thread);
  void park(uint64_t seen);

  struct Job {
    Function function = nullptr;
    void* context = nullptr;
  };
  Job job_;  // written by run() between jobs; read only by a thread that holds a chunk of it
  // job number (24 bits) | chunks (20) | next chunk (20): one word, so a claim is of the job it saw.
  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<int64_t> done_{0};
  alignas(64) std::atomic<uint32_t> bell_{0};
  std::atomic<int32_t> parked_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace troupe::cpu
