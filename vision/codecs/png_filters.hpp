// PNG's row filters taken back, once per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace troupe::vision {

// A pixel of three bytes is read four at a time: so many bytes behind both rows must be readable.
inline constexpr size_t kFilterSlack = 4;

// Writes a row of `count` bytes over by what it was before `filter`. `above` is the row above as it
// was, zeros for the first; `pixel` is 3 or 4 bytes. False: PNG has no such filter.
bool unfilter_row(size_t pixel, uint8_t filter, uint8_t* row, const uint8_t* above, size_t count);

}  // namespace troupe::vision
