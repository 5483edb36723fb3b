#include "base/build_id.hpp"

namespace troupe {
const char* build_id() { return TROUPE_BUILD_ID; }
}  // namespace troupe
