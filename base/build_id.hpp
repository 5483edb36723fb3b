// The build id: libraries of one build find one another by it and refuse any other.
#pragma once

namespace troupe {
const char* build_id();
}  // namespace troupe
