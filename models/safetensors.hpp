// Reads the header of one safetensors file: eight bytes of length, JSON, then the tensors' bytes.
// Nothing of the header is trusted; see INV-WEIGHTS-1 in checkpoint.hpp.
#pragma once

#include "models/checkpoint.hpp"

namespace troupe::models {

Result<TensorMap> read_safetensors(const std::shared_ptr<const MappedFile>& file);

}  // namespace troupe::models
