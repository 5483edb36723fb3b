// Counts what is asked of the heap, for the tests that steady decoding asks for nothing and a short
// answer for little. A file of its own, so that no optimiser sees both sides of a new and its delete.
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

std::atomic<int64_t> allocations_counted{0};
std::atomic<int64_t> bytes_counted{0};

void* operator new(size_t size) {
  allocations_counted.fetch_add(1, std::memory_order_relaxed);
  bytes_counted.fetch_add(static_cast<int64_t>(size), std::memory_order_relaxed);
  if (void* p = std::malloc(size)) return p;
  std::abort();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
