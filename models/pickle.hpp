// Reads the tensors of one pytorch_model*.bin without running anything of it.
//
// torch.save writes a zip of stored entries: data.pkl, a pickle program, and one entry per storage.
// A pickle may name any Python callable, so unpickling runs code by design. This reader knows the
// opcodes that torch.save emits and a handful of names (the ones that rebuild tensors, OrderedDict,
// the storage types); every other name is refused, by name, before anything looks at it.
#pragma once

#include <memory>

#include "models/checkpoint.hpp"

namespace troupe::models {

Result<TensorMap> read_pytorch(const std::shared_ptr<const MappedFile>& file);

}  // namespace troupe::models
