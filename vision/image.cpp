#include "vision/image.hpp"

#include <sys/mman.h>

#include <cstdlib>

namespace troupe::vision {
namespace {

constexpr size_t kLargePage = size_t{2} << 20;

}  // namespace

void* allocate_pixels(size_t bytes) {
  if (bytes < kLargePage) return ::operator new(bytes);
  void* at = nullptr;
  if (::posix_memalign(&at, kLargePage, bytes) != 0) throw std::bad_alloc();
  // Only advice: where it is not taken, small pages do. The last, partial page stays small.
  static_cast<void>(::madvise(at, bytes / kLargePage * kLargePage, MADV_HUGEPAGE));
  return at;
}

void free_pixels(void* at, size_t bytes) {
  if (bytes < kLargePage) return ::operator delete(at);
  std::free(at);
}

}  // namespace troupe::vision
