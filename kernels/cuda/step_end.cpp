// The end of a step: waiting for it, and handing over what was drawn.
//
// Steps that are graphs are looked for where their rows come (step_results.hpp): the driver has no
// part in it, but for being asked now and then whether the device still works. All others end with
// an event.
#include <chrono>
#include <utility>

#include "base/relax.hpp"
#include "kernels/cuda/cuda_backend.hpp"

namespace troupe::cuda {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kDriverAsked{1};

// It may be gone by now: then nothing happens.
void bring(const void* memory, size_t bytes) {
  constexpr size_t kLine = 64;
  const auto* const begin = static_cast<const std::byte*>(memory);
  for (size_t at = 0; at < bytes; at += kLine) __builtin_prefetch(begin + at);
}

}  // namespace

// Some microseconds of a wait. Milliseconds are enough for others (who share the core, or are given it
// for a while) to push out of its caches what the next step is made of; it is brought back instead.
void CudaBackend::keep_at_hand() const {
  constexpr int kPauses = 128;
  bring(this, sizeof *this);
  for (const InFlight& f : ring_) {
    if (f.of == nullptr) continue;
    bring(f.of, sizeof(StepPlanHeader));
    bring(f.plan.staged(), kPlanBytesLeast);
  }
  for (int i = 0; i < kPauses; ++i) relax();
}

// `look` answers as an event does: not ready, ready, or what is wrong. Notes how long it took.
template <class Look>
cudaError_t CudaBackend::wait_until(const Look& look) {
  const auto begin = Clock::now();
  cudaError_t status = look();
  for (; status == cudaErrorNotReady; status = look()) keep_at_hand();
  const auto waited = Clock::now() - begin;
  waited_ns_ += std::chrono::duration_cast<std::chrono::nanoseconds>(waited).count();
  return status;
}

cudaError_t CudaBackend::wait_for_rows(StepResults& results) {
  auto ask = Clock::now() + kDriverAsked;
  return wait_until([&] {
    if (results.complete()) return cudaSuccess;
    const auto now = Clock::now();
    if (now < ask) return cudaErrorNotReady;
    ask = now + kDriverAsked;
    const cudaError_t device = cudaStreamQuery(stream_);
    // Nothing is under way any more: what has not come never will.
    if (device == cudaSuccess && !results.complete()) return cudaErrorLaunchFailure;
    return device;
  });
}

Result<StepResult> CudaBackend::finish_step(const Batch& batch) {
  use();
  flush();
  InFlight& f = ring_[batch.ring];
  if (f.tells) {
    check(wait_for_rows(f.results), "a step on the device");
  } else {
    if (!f.sampled) check(cudaEventRecord(f.done, stream_), "ending a step");
    check(wait_until([&] { return cudaEventQuery(f.done); }), "a step on the device");
  }
  f.open = false;
  if (!failure_.ok()) return std::exchange(failure_, Status());
  StepResult result = std::exchange(spare_, {});
  result.step = f.step;
  result.tokens.clear();
  result.tops.clear();
  if (f.sampled) f.results.read(f.plan.logit_rows(), vocab_, result);
  return result;
}

}  // namespace troupe::cuda
