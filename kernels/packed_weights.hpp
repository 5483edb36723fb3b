// A backend that keeps second, packed copies of weights beside the plain ones where memory is left.
// Asked for by dynamic_cast, before reserve_steps(); a backend without it keeps none.
#pragma once

#include <cstddef>

namespace troupe {

class PackedWeights {
 public:
  virtual ~PackedWeights() = default;
  virtual void keep_weights_plain() = 0;  // no copies
  // Device memory that others will still ask for: copies leave it alone.
  virtual void leave_free(size_t bytes) = 0;
};

}  // namespace troupe
