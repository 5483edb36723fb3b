// Opening a backend that lies in a library of its own: ours (libtroupe_cuda.so) and anybody's.
#pragma once

#include <string>

#include "base/status.hpp"
#include "kernels/backend.hpp"

namespace troupe {

// The library at `path`, once it has said that it speaks this build's interface. It stays loaded.
Result<const BackendPlugin*> load_backend_plugin(const std::string& path);
// Device `index` of those that the library finds on this machine.
Result<std::unique_ptr<Backend>> open_backend_plugin(const std::string& path, int32_t index);

}  // namespace troupe
