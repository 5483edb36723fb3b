// Memory for pixels and patches. Large pieces lie on large pages where the system has them, which
// saves thousands of page faults, and are kept for the next picture when they are freed: a page's
// patches are 50 MB, and having the system find and clear large pages for each picture anew costs a
// third of all the arithmetic on a fresh machine, and several times the arithmetic on one whose
// memory is in pieces.
//
// INV-PIXELS-1: spare pieces hold at most kSpareBytes, or a quarter of what is in use if that is
// more.
#pragma once

#include <cstddef>

namespace troupe::vision {

inline constexpr size_t kLargePiece = size_t{2} << 20;
inline constexpr size_t kSpareBytes = size_t{64} << 20;

void* allocate_pixels(size_t bytes);
void free_pixels(void* at, size_t bytes);  // as many as were asked for

struct PixelMemory {
  size_t used = 0, spare = 0;  // bytes of large pieces
};
PixelMemory pixel_memory();

}  // namespace troupe::vision
