#include "actors/loaded_encoder.hpp"

#include <algorithm>
#include <memory>
#include <mutex>
#include <random>
#include <utility>

#include "base/limits.hpp"
#include "engine/vision_core.hpp"
#include "kernels/cpu/host_memory.hpp"

namespace troupe::actors {
namespace {

constexpr int64_t kMebi = int64_t{1} << 20;
constexpr int64_t kRowBytesLeast = 64 * kMebi, kRowBytesMost = 4096 * kMebi;
constexpr int64_t kWorkBytesLeast = 64 * kMebi, kWorkBytesMost = 1024 * kMebi;
constexpr int64_t kWorkspaceLeast = 256 * kMebi, kWorkspaceMost = 2048 * kMebi;
// Calls are small on a CPU, where tiles gain nothing by company, and large where they do.
constexpr int64_t kBatchPatchesCpu = 1024, kBatchPatchesDevice = 16384;
// What a device does per FLOP before it has shown itself: 50 GFLOP/s, 50 TFLOP/s.
constexpr double kNsPerFlopCpu = 0.02, kNsPerFlopDevice = 2e-5;
// On a device two, with a call each: one brings its call's patches while the other computes.
constexpr int32_t kEncodersDevice = 2, kCallsDevice = 1;
constexpr int64_t kPixelBytes = 6;  // as picture_prompt.cpp counts them

uint64_t random_word() {
  std::random_device entropy;
  return uint64_t{entropy()} << 32 ^ entropy();
}

// Shares of the host's memory, which is where pictures are decoded, and kept on a CPU.
VisionMemory plan_vision(const LoadRequest& request, const Eyes& eyes) {
  const auto host = static_cast<int64_t>(cpu::host_memory().total);
  const int64_t full = 2 * int64_t{request.folder->facts().context_length} * eyes.row_bytes;
  VisionMemory m;
  m.encoders = request.device.cpu() ? request.device.slices : kEncodersDevice;
  m.weight_bytes = eyes.folder->weight_bytes();
  m.embedding_bytes = std::clamp(std::min(full, host / 16), kRowBytesLeast, kRowBytesMost);
  m.work_bytes = std::clamp(host / 32, kWorkBytesLeast, kWorkBytesMost);
  m.workspace_bytes = std::clamp(host / 32, kWorkspaceLeast, kWorkspaceMost);
  return m;
}

Result<std::unique_ptr<engine::VisionExecutor>> open_encoder(
    const LoadRequest& request, int32_t device, const std::shared_ptr<std::mutex>& turn) {
  TR_ASSIGN(auto opened, open_encoder_backend(request.device, request.threads, device));
  const std::shared_ptr<Backend> backend = std::move(opened);
  models::LoadOptions load = request.load;
  load.progress = nullptr;
  TR_ASSIGN(auto model, vision::VisionModel::load(request.eyes->folder, *backend, load));
  if (!request.device.cpu()) model->take_turns(turn);
  engine::VisionCore::Shape shape;
  shape.hidden = request.eyes->folder->rules().hidden;
  shape.dtype = backend->activation_dtype(request.folder->facts().dtype);
  shape.patches_max = engine::patches_that_fit(
      *model, static_cast<size_t>(request.vision.workspace_bytes));
  if (!request.device.cpu()) shape.patches_usual = kBatchPatchesDevice;
  request.eyes->patches_max->store(shape.patches_max, std::memory_order_relaxed);
  auto core = std::make_unique<engine::VisionCore>(backend, std::move(model), shape);
  if (!request.device.cpu()) TR_TRY(core->reserve());
  return std::unique_ptr<engine::VisionExecutor>(std::move(core));
}

}  // namespace

Status open_eyes(const std::string& folder, LoadRequest& request) {
  TR_ASSIGN(auto opened, vision::VisionFolder::open(folder, request.load));
  if (opened == nullptr) return {};
  auto eyes = std::make_shared<Eyes>();
  eyes->folder = std::move(opened);
  const vision::PromptRules& rules = eyes->folder->rules();
  eyes->row_bytes = int64_t{rules.hidden} * (request.device.cpu() ? 4 : 2);
  eyes->images_max = limits::images_per_request;
  if (rules.images_max > 0) eyes->images_max = std::min(eyes->images_max, rules.images_max);
  eyes->seed = {random_word(), random_word()};
  request.vision = plan_vision(request, *eyes);
  vision::DecodeLimits limits;
  limits.pixels = std::min(limits.pixels, request.vision.work_bytes / kPixelBytes);
  eyes->pixels_max = limits.pixels;
  eyes->source.measure = [limits](const ImageInput& image) { return vision::measure(image, limits); };
  eyes->source.load = [limits](const ImageInput& image) { return vision::load(image, limits); };
  request.eyes = std::move(eyes);
  return {};
}

VisionParts loaded_vision(const LoadRequest& request) {
  VisionParts parts;
  parts.eyes = request.eyes;
  parts.devices = request.vision.encoders;
  parts.open_device = [request, turn = std::make_shared<std::mutex>()](int32_t device, int32_t) {
    return open_encoder(request, device, turn);
  };
  parts.balancer = [request] {
    const VisionMemory& memory = request.vision;
    engine::VisionConfig config;
    config.embedding_bytes = memory.embedding_bytes;
    config.user_bytes = memory.embedding_bytes - memory.embedding_bytes / 4;  // sessions keep a quarter
    config.work_bytes = memory.work_bytes;
    config.batch_patches = request.device.cpu() ? kBatchPatchesCpu : kBatchPatchesDevice;
    if (!request.device.cpu()) {
      config.calls_max = kCallsDevice;
      config.turns = true;
    }
    config.ns_per_cost = request.device.cpu() ? kNsPerFlopCpu : kNsPerFlopDevice;
    return config;
  };
  return parts;
}

}  // namespace troupe::actors
