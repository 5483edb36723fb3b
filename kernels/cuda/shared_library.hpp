// Opens NVIDIA libraries that are never bundled: by soname, from the toolkit, from Python's wheels.
#pragma once

#include <string>
#include <vector>

#include "base/status.hpp"

namespace troupe::cuda {

struct OpenLibrary {
  void* handle = nullptr;
  std::string path;  // where it was found
};

// `wheel_folder`: below site-packages ("nvidia/cu13/lib"); `package`: what pip calls it.
Result<OpenLibrary> open_nvidia_library(const std::string& soname, const std::string& wheel_folder,
                                        const std::string& package);

// Looks up a function; a missing one is an error that names library and function.
Result<void*> find_function(const OpenLibrary& library, const char* name);

}  // namespace troupe::cuda
