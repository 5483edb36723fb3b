// Products of few rows by slim copies of their weights (slim_store.hpp): when copies are made, and
// which products take them. Only what timing found quicker goes this way (tuning_slim.cpp); a
// weight without a copy, and a shape that was not timed, are multiplied as if there were none.
#include <algorithm>

#include "base/log.hpp"
#include "kernels/cuda/tuning.hpp"

namespace troupe::cuda {
namespace {

// What stays free beside the copies: what steps grow into, graphs, and other programs.
constexpr size_t kFreeLeast = size_t{3} << 29;
constexpr size_t kFreePart = 100;  // of all memory, where that is more
constexpr size_t kTimingSlack = size_t{256} << 20;
// A layer has no more products of one shape, but for its experts'.
constexpr size_t kAlikeInLayer = 4;

}  // namespace

// ---- copies ----

std::unique_ptr<DeviceBuffer> CudaBackend::watched(const LinearPart& part,
                                                   std::unique_ptr<DeviceBuffer> values) {
  const Matrix& w = part.values;
  const SlimShape shape = {w.rows, w.cols, part.group_size == 2};
  const bool may = major_ == 9 && w.dtype == DType::bf16 && w.cols % 8 == 0 && slim_fits(shape) &&
                   w.rows * w.cols >= kElementsLeast;
  return may ? SlimStore::watch(slims_, shape, std::move(values)) : std::move(values);
}

// Timing has its memory until it ends; what comes then may have the same.
Status CudaBackend::pack_weights() {
  if (!packs_weights_ || major_ != 9 || !decodes_ || rows_independent_ || lt_ == nullptr)
    return ok_status();
  const size_t free = info().memory_free;
  const size_t part = static_cast<size_t>(info_.memory_total) / kFreePart;
  const size_t kept = std::max(timing_bytes(products_) + kTimingSlack,
                               std::max(kFreeLeast, part) + free_for_others_);
  DeviceSlimPacker packer(stream_);
  TR_ASSIGN(const auto outcomes,
            slims_->pack({free > kept ? free - kept : 0, kAlikeInLayer * cache_layers_}, packer));
  if (!outcomes.empty() && log_wanted(LogLevel::info))
    log(LogLevel::info, "cuda: " + text_of(outcomes));
  return ok_status();
}

// A choice for any number of rows keeps all copies of its shape.
void CudaBackend::give_idle_copies_back() {
  for (const SlimShape& shape : slims_->shapes()) {
    const bool chosen = std::any_of(slim_choices_.begin(), slim_choices_.end(), [&](const auto& c) {
      return std::get<0>(c.first) == shape.n && std::get<1>(c.first) == shape.k &&
             std::any_of(c.second.begin(), c.second.end(),
                         [](const auto& rows) { return rows.second.cut.strips > 0; });
    });
    if (chosen) continue;
    slims_->give_back(shape);
    log(LogLevel::debug, "cuda: packed weights of " + std::to_string(shape.k) + " to " +
                             std::to_string(shape.n) + " given back: none was quicker");
  }
}

// ---- products ----

const CudaBackend::SlimChoice* CudaBackend::slim_choice_of(const GemmOperands& g) const {
  if (g.slim == nullptr || rows_independent_ || g.m == 0) return nullptr;
  if (g.slim_paired && g.likeliest != nullptr) return nullptr;  // tokens are told by their rows
  const auto shape = slim_choices_.find({g.n, g.k, g.sums_to()});
  if (shape == slim_choices_.end()) return nullptr;
  const auto found = shape->second.lower_bound(g.m);
  if (found == shape->second.end() || found->second.cut.strips == 0) return nullptr;
  return slim_gemm_fits({g, found->second.cut}) ? &found->second : nullptr;
}

// Parts that were to be left apart meet here: nobody adds them up.
cudaError_t CudaBackend::run_slim(const GemmOperands& g, const SlimChoice& choice) {
  return slim_gemm({g, choice.cut}, multiprocessors_, stream_);
}

}  // namespace troupe::cuda
