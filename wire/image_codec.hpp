// A request's picture but for its bytes, which travel as a blob.
#pragma once

#include <cstddef>

#include "base/port.hpp"
#include "wire/reader.hpp"
#include "wire/writer.hpp"

namespace troupe::wire {

void write_image(Writer& to, const ImageInput& image, size_t blob);
// Leaves `blob` as it is where none is named; one above `blob_max` is refused.
void read_image(Reader& from, size_t blob_max, ImageInput& image, size_t& blob);

}  // namespace troupe::wire
