// A model's eyes brought onto their devices: what the prompt's side knows of them, the memory that
// they may take, and one encoder per device.
#pragma once

#include <memory>

#include "actors/cast_parts.hpp"
#include "actors/loaded_executor.hpp"
#include "actors/sight.hpp"

namespace troupe::actors {

// Sets `eyes` and `vision`; a model without eyes is left as it is.
Status open_eyes(const std::string& folder, LoadRequest& request);
// Of a request whose eyes are open.
VisionParts loaded_vision(const LoadRequest& request);

}  // namespace troupe::actors
