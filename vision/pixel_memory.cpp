#include "vision/pixel_memory.hpp"

#include <sanitizer/asan_interface.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

namespace troupe::vision {
namespace {

struct Piece {
  void* at;
  size_t bytes;
};

// Four sizes an octave, so that pictures of nearly one size fit each other's pieces.
size_t piece_bytes(size_t bytes) {
  const size_t step = std::max(kLargePiece, std::bit_floor(bytes) / 4);
  return (bytes + step - 1) / step * step;
}

class Pieces {
 public:
  // A spare piece of that size, the one freed last; null when there is none.
  void* take(size_t bytes) {
    const std::lock_guard lock(mutex_);
    size_.used += bytes;
    const auto of_size = [bytes](const Piece& p) { return p.bytes == bytes; };
    const auto last = std::find_if(spare_.rbegin(), spare_.rend(), of_size);
    if (last == spare_.rend()) return nullptr;
    void* const at = last->at;
    spare_.erase(std::next(last).base());
    size_.spare -= bytes;
    ASAN_UNPOISON_MEMORY_REGION(at, bytes);
    return at;
  }

  // Keeps the piece, and frees the oldest ones that are too many then. A spare piece is poisoned:
  // to the address sanitizer it is as freed as any other.
  void give(Piece piece) {
    std::vector<Piece> leaving;
    {
      const std::lock_guard lock(mutex_);
      size_.used -= piece.bytes;
      ASAN_POISON_MEMORY_REGION(piece.at, piece.bytes);
      spare_.push_back(piece);
      size_.spare += piece.bytes;
      const size_t bound = std::max(kSpareBytes, size_.used / 4);
      auto stays = spare_.begin();
      for (; size_.spare > bound; ++stays) size_.spare -= stays->bytes;
      leaving.assign(spare_.begin(), stays);
      spare_.erase(spare_.begin(), stays);
    }
    for (const Piece& old : leaving) {
      ASAN_UNPOISON_MEMORY_REGION(old.at, old.bytes);
      std::free(old.at);
    }
  }

  // A piece that take() counted and that the system did not have.
  void failed(size_t bytes) {
    const std::lock_guard lock(mutex_);
    size_.used -= bytes;
  }

  PixelMemory size() {
    const std::lock_guard lock(mutex_);
    return size_;
  }

 private:
  std::mutex mutex_;
  std::vector<Piece> spare_;  // oldest first
  PixelMemory size_;
};

// Never destroyed: pixels may be freed by threads that outlive main().
Pieces& pieces() {
  static Pieces* const all = new Pieces;
  return *all;
}

}  // namespace

void* allocate_pixels(size_t bytes) {
  if (bytes < kLargePiece) return ::operator new(bytes);
  const size_t size = piece_bytes(bytes);
  if (void* const spare = pieces().take(size)) return spare;
  void* at = nullptr;
  if (::posix_memalign(&at, kLargePiece, size) != 0) {
    pieces().failed(size);
    throw std::bad_alloc();
  }
  // Only advice: where it is not taken, small pages do.
  static_cast<void>(::madvise(at, size, MADV_HUGEPAGE));
  return at;
}

void free_pixels(void* at, size_t bytes) {
  if (bytes < kLargePiece) return ::operator delete(at);
  pieces().give({at, piece_bytes(bytes)});
}

PixelMemory pixel_memory() {
  return pieces().size();
}

}  // namespace troupe::vision
