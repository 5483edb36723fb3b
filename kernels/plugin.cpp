#include "kernels/plugin.hpp"

#include <dlfcn.h>

#include <string_view>

#include "base/build_id.hpp"
#include "base/log.hpp"

namespace troupe {
namespace {

constexpr const char* kSymbol = "troupe_backend_plugin";

Status check(const BackendPlugin* plugin, const std::string& path) {
  if (plugin == nullptr) return unsupported("device: " + path + ": " + kSymbol + "() gave nothing");
  if (plugin->interface != kBackendInterface) {
    return unsupported("device: " + path + " speaks interface " +
                       std::to_string(plugin->interface) + " of the ops, this engine speaks " +
                       std::to_string(kBackendInterface));
  }
  if (plugin->build_id != nullptr && std::string_view(plugin->build_id) != build_id()) {
    return unsupported("device: " + path + " is of build " + plugin->build_id +
                       ", this engine is of build " + build_id() + "; install both from one build");
  }
  if (plugin->device_count == nullptr || plugin->open == nullptr) {
    return unsupported("device: " + path + " lacks device_count or open");
  }
  return ok_status();
}

}  // namespace

Result<const BackendPlugin*> load_backend_plugin(const std::string& path) {
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) {
    const char* why = dlerror();
    return Status(Code::not_found,
                  "device: cannot load " + path + ": " + (why == nullptr ? "unknown reason" : why));
  }
  using Entry = const BackendPlugin* (*)();
  const auto entry = reinterpret_cast<Entry>(dlsym(library, kSymbol));
  if (entry == nullptr) {
    return unsupported("device: " + path + " is no backend: it has no symbol " + kSymbol);
  }
  const BackendPlugin* const plugin = entry();
  TR_TRY(check(plugin, path));
  if (plugin->set_log != nullptr) plugin->set_log(&log);
  return plugin;
}

Result<std::unique_ptr<Backend>> open_backend_plugin(const std::string& path, int32_t index) {
  TR_ASSIGN(const BackendPlugin* plugin, load_backend_plugin(path));
  TR_ASSIGN(const int32_t count, plugin->device_count());
  if (index >= count) {
    return Status(Code::not_found, "device: number " + std::to_string(index) + " of " + path +
                                       " was asked for, there are " + std::to_string(count));
  }
  return plugin->open(index);
}

}  // namespace troupe
