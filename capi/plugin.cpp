#include "capi/plugin.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <vector>

#include "base/build_id.hpp"
#include "capi/troupe.h"

namespace troupe::capi {
namespace {

constexpr const char* kEngineLibrary = "libtroupe_engine.so";

// The plugins of this process and the log level that they were told. Leaked on purpose.
struct Plugins {
  std::mutex mutex;
  std::vector<const EnginePlugin*> loaded;
  LogLevel level = LogLevel::off;
};

Plugins& plugins() {
  static Plugins* const p = new Plugins;
  return *p;
}

std::string own_directory() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&troupe_version), &info) == 0 ||
      info.dli_fname == nullptr) {
    return ".";
  }
  const std::string path = info.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

void tell_level(const EnginePlugin& plugin, LogLevel level) {
  if (plugin.set_log != nullptr) plugin.set_log(level, level == LogLevel::off ? nullptr : &log);
}

Result<const EnginePlugin*> entry_of(void* library, const std::string& path) {
  using Entry = const EnginePlugin* (*)();
  const auto entry = reinterpret_cast<Entry>(dlsym(library, kEnginePluginSymbol));
  if (entry == nullptr) {
    return unsupported(path + " is not Troupe's engine: it has no symbol " + kEnginePluginSymbol);
  }
  const EnginePlugin* const plugin = entry();
  const std::string theirs = plugin->build_id == nullptr ? "none" : plugin->build_id;
  if (theirs != build_id()) {
    return unsupported(path + " is of another build: its id is " + theirs + ", libtroupe's is " +
                       build_id() + "; install both from the same build");
  }
  return plugin;
}

}  // namespace

Result<const EnginePlugin*> load_engine_plugin(const std::string& directory) {
  const std::string path = (directory.empty() ? own_directory() : directory) + "/" + kEngineLibrary;
  if (access(path.c_str(), R_OK) != 0) {
    return Status(Code::not_found,
                  "an engine in this process needs " + path +
                      ", which is not there: install it beside libtroupe.so, or name its folder in "
                      "troupe_engine_options.library_dir (tcp:// and ipc:// endpoints do without)");
  }
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) {
    const char* why = dlerror();
    return unsupported("cannot load " + path + ": " + (why != nullptr ? why : "unknown reason") +
                       "; `ldd " + path + "` names what is missing");
  }
  TR_ASSIGN(const EnginePlugin* plugin, entry_of(library, path));
  Plugins& p = plugins();
  const std::scoped_lock lock(p.mutex);
  if (std::find(p.loaded.begin(), p.loaded.end(), plugin) == p.loaded.end()) {
    p.loaded.push_back(plugin);
    tell_level(*plugin, p.level);
  }
  return plugin;
}

void set_log(LogLevel level, LogSink sink) {
  {
    Plugins& p = plugins();
    const std::scoped_lock lock(p.mutex);
    p.level = sink ? level : LogLevel::off;
    for (const EnginePlugin* plugin : p.loaded) tell_level(*plugin, p.level);
  }
  set_log_sink(level, std::move(sink));
}

}  // namespace troupe::capi
