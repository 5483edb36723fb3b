// The quick way for the ordinary PNG: 8 bits, RGB or RGBA, not interlaced, nothing else that would
// change its pixels. Its rows are inflated in one go with libdeflate, at less than half of zlib's
// price, and unfiltered where they will stay.
#pragma once

#include <optional>

#include "vision/codecs/codec.hpp"

namespace troupe::vision {

// Nothing for whatever is out of the ordinary, damaged files included: libpng decodes those or says
// what is wrong with them, so both ways give the same pixels and the same errors.
std::optional<Image> decode_plain_png(Bytes bytes, const StoredHeader& header);

}  // namespace troupe::vision
