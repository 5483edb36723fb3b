#include "actors/devices.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>

#include "engine/step_defaults.hpp"
#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/plugin.hpp"

namespace troupe::actors {
namespace {

constexpr int32_t kSlicesMax = 64;
constexpr const char* kCudaLibrary = "libtroupe_cuda.so";

std::string own_folder() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&choose_device), &info) == 0) return ".";
  const std::string path = info.dli_fname == nullptr ? "" : info.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

std::string cuda_library() { return own_folder() + "/" + kCudaLibrary; }

Result<int32_t> parse_index(std::string_view device, std::string_view text) {
  int32_t index = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
  if (error != std::errc() || end != text.data() + text.size() || index < 0) {
    return invalid("device: \"" + std::string(device) + "\": \"" + std::string(text) +
                   "\" is no device number (several devices at once are not there yet)");
  }
  return index;
}

}  // namespace

Result<DeviceChoice> choose_device(const std::string& device) {
  DeviceChoice choice;
  if (device == "auto" || device.empty()) {
    const std::string cuda = cuda_library();
    if (access(cuda.c_str(), R_OK) != 0) return choice;
    const auto plugin = load_backend_plugin(cuda);
    if (!plugin.ok()) return choice;
    const auto count = plugin.value()->device_count();
    if (count.ok() && *count > 0) choice.plugin = cuda;
    return choice;
  }
  const size_t colon = device.rfind(':');
  const std::string name = device.substr(0, colon);
  if (colon != std::string::npos) {
    TR_ASSIGN(choice.index, parse_index(device, std::string_view(device).substr(colon + 1)));
  }
  if (name == "cpu") {
    choice.slices = std::max(std::exchange(choice.index, 0), 1);
    if (choice.slices <= kSlicesMax) return choice;
    return invalid("device: \"" + device + "\": at most " + std::to_string(kSlicesMax) +
                   " virtual devices");
  }
  if (name == "cuda") {
    choice.plugin = cuda_library();
    if (access(choice.plugin.c_str(), R_OK) != 0) {
      return Status(Code::not_found, "device: \"" + device + "\": this build has no CUDA backend (" +
                                         choice.plugin + " is not there): build where nvcc is found " +
                                         "(docs/kernels.md), or take cpu (--device cpu)");
    }
  } else if (name.find('/') != std::string::npos) {
    choice.plugin = name;
  } else {
    return invalid("device: \"" + device +
                   "\" is unknown; give auto, cpu, cpu:N, cuda, cuda:N or the path of a backend plugin");
  }
  return choice;
}

Result<std::unique_ptr<Backend>> open_encoder_backend(const DeviceChoice& choice,
                                                      const ThreadPlan& threads, int32_t encoder) {
  if (!choice.cpu()) return open_backend(choice, threads);
  cpu::CpuOptions options;
  options.threads = threads.vision_threads(encoder);
  options.device = encoder;
  return cpu::open_cpu_backend(options);
}

int32_t block_tokens_of(const DeviceChoice& choice, int32_t asked) {
  if (asked > 0) return asked;
  return (choice.cpu() ? engine::kHostSteps : engine::kDeviceSteps).block_tokens;
}

Result<std::unique_ptr<Backend>> open_backend(const DeviceChoice& choice,
                                              const ThreadPlan& threads) {
  if (choice.cpu()) {
    cpu::CpuOptions options;
    options.threads = threads.compute_threads(0);
    options.device = choice.index;
    for (const PlannedThread& t : threads.threads) {
      const bool computes = t.owner == ThreadOwner::executor || t.owner == ThreadOwner::compute;
      if (computes && t.index == 0 && t.core >= 0) options.cores.push_back(t.core);
    }
    return cpu::open_cpu_backend(options);
  }
  return open_backend_plugin(choice.plugin, choice.index);
}

}  // namespace troupe::actors
