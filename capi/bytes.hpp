// troupe_bytes: a result of variable size, with a NUL behind it.
#pragma once

#include <cstddef>

#include "capi/troupe.h"

namespace troupe::capi {

// Throws bad_alloc; the size comes without the NUL.
[[nodiscard]] troupe_bytes* make_bytes(const void* data, size_t size);

}  // namespace troupe::capi
