// What the engine finds when it opens libtroupe_cuda.so. A missing or too old driver is an answer,
// not a failure to load: the runtime is linked statically and the driver is only asked here.
#include <cuda_runtime.h>

#include "base/build_id.hpp"
#include "base/log.hpp"
#include "kernels/backend.hpp"
#include "kernels/cuda/cuda_backend.hpp"

namespace troupe::cuda {
namespace {

Result<int32_t> device_count() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess) return static_cast<int32_t>(count);
  cudaGetLastError();
  int driver = 0, runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  const auto version = [](int v) {
    return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10);
  };
  if (driver == 0)
    return unsupported("no NVIDIA driver on this machine: install one for CUDA " +
                       version(runtime) + " or later");
  if (error == cudaErrorInsufficientDriver || driver / 1000 < runtime / 1000) {
    return unsupported("the NVIDIA driver supports CUDA " + version(driver) +
                       ", this build needs " + version(runtime) + ": update the driver");
  }
  if (error == cudaErrorNoDevice) return int32_t{0};
  return Status(Code::device_failed,
                std::string("looking for CUDA devices: ") + cudaGetErrorString(error));
}

Result<std::unique_ptr<Backend>> open(int32_t device) {
  return CudaBackend::open(device);
}

// Who gets all of it knows what is wanted.
void set_log(LogForward write) {
  set_log_forward(LogLevel::trace, write);
}

}  // namespace
}  // namespace troupe::cuda

extern "C" __attribute__((visibility("default"))) const troupe::BackendPlugin*
troupe_backend_plugin() {
  static const troupe::BackendPlugin plugin = {troupe::kBackendInterface, troupe::build_id(),
                                               "cuda", &troupe::cuda::device_count,
                                               &troupe::cuda::open, &troupe::cuda::set_log};
  return &plugin;
}
