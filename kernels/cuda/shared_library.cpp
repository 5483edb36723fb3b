#include "kernels/cuda/shared_library.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

namespace troupe::cuda {
namespace {

namespace fs = std::filesystem;

void add_if_there(std::vector<std::string>& found, const fs::path& file) {
  std::error_code ignored;
  if (fs::exists(file, ignored)) found.push_back(file.string());
}

// root/python3.*/{site,dist}-packages/wheel_folder/soname
void search_pythons(std::vector<std::string>& found, const fs::path& root,
                    const fs::path& below_packages) {
  std::error_code error;
  for (fs::directory_iterator it(root, error), end; !error && it != end; it.increment(error)) {
    if (!it->path().filename().string().starts_with("python3")) continue;
    for (const char* packages : {"site-packages", "dist-packages"}) {
      add_if_there(found, it->path() / packages / below_packages);
    }
  }
}

fs::path own_folder() {
  Dl_info info = {};
  const auto here = reinterpret_cast<const void*>(&open_nvidia_library);
  if (dladdr(here, &info) == 0 || info.dli_fname == nullptr) return {};
  std::error_code ignored;
  return fs::weakly_canonical(info.dli_fname, ignored).parent_path();
}

std::vector<std::string> candidates(const std::string& soname, const std::string& wheel_folder) {
  std::vector<std::string> found;
  const fs::path below = fs::path(wheel_folder) / soname;
  // A wheel of ours stands beside NVIDIA's in site-packages; a build tree or prefix may stand in a
  // virtual environment.
  for (fs::path folder = own_folder(); folder.has_relative_path(); folder = folder.parent_path()) {
    add_if_there(found, folder / below);
    search_pythons(found, folder / "lib", below);
  }
  for (const char* root : {"/usr/local/cuda/lib64", "/usr/local/cuda-13.0/lib64"}) {
    add_if_there(found, fs::path(root) / soname);
  }
  for (const char* root : {"/usr/local/lib", "/usr/lib"}) search_pythons(found, root, below);
  std::error_code error;
  for (fs::directory_iterator it("/opt", error), end; !error && it != end; it.increment(error)) {
    search_pythons(found, it->path() / "lib", below);
    search_pythons(found, it->path() / ".venv" / "lib", below);
  }
  return found;
}

}  // namespace

Result<OpenLibrary> open_nvidia_library(const std::string& soname, const std::string& wheel_folder,
                                        const std::string& package) {
  if (void* handle = dlopen(soname.c_str(), RTLD_NOW | RTLD_LOCAL))
    return OpenLibrary{handle, soname};
  const char* reason = dlerror();
  std::string why = reason != nullptr ? reason : "";
  for (const std::string& path : candidates(soname, wheel_folder)) {
    if (void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL))
      return OpenLibrary{handle, path};
    if ((reason = dlerror()) != nullptr) why = reason;
  }
  return Status(Code::unsupported, soname + " was not found (" + why +
                                       "): install the CUDA 13 toolkit, or run `pip install " +
                                       package + "`, or add its folder to LD_LIBRARY_PATH");
}

Result<void*> find_function(const OpenLibrary& library, const char* name) {
  if (void* function = dlsym(library.handle, name)) return function;
  return unsupported(library.path + " has no function " + name +
                     ": it is too old or not the right library");
}

}  // namespace troupe::cuda
