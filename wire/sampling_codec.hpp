// SamplingParams as a map, and back within the bounds of base/limits.hpp.
#pragma once

#include "base/request.hpp"

namespace troupe::wire {

class Reader;
class Writer;

void write_sampling(Writer& writer, const SamplingParams& sampling);
SamplingParams read_sampling(Reader& reader);

}  // namespace troupe::wire
