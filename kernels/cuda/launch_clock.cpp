#include "kernels/cuda/launch_clock.hpp"

#include <utility>

#include "kernels/cuda/race.hpp"

namespace troupe::cuda {

LaunchClock::LaunchClock(std::vector<const void*> weights, cudaStream_t stream)
    : weights_(std::move(weights)), stream_(stream) {
  cudaEventCreate(&begin_);
  cudaEventCreate(&end_);
}

LaunchClock::~LaunchClock() {
  cudaEventDestroy(begin_);
  cudaEventDestroy(end_);
}

double LaunchClock::end_turn(bool launched) {
  cudaEventRecord(end_, stream_);
  float ms = 0;
  if (cudaEventSynchronize(end_) == cudaSuccess && launched &&
      cudaEventElapsedTime(&ms, begin_, end_) == cudaSuccess)
    return static_cast<double>(ms);
  cudaGetLastError();
  return kNever;
}

double LaunchClock::milliseconds(int launches, const Launch& launch) {
  // The first is not timed: its code may have to be loaded, and behind it the device has work while
  // the next are launched.
  bool launched = launch_next(launch);
  cudaEventRecord(begin_, stream_);
  for (int i = 0; launched && i < launches; ++i) launched = launch_next(launch);
  const double ms = end_turn(launched);
  return ms < kNever ? ms / launches : kNever;
}

double LaunchClock::milliseconds(const Recording& recording) {
  if (recording.graph() == nullptr) return kNever;
  cudaEventRecord(begin_, stream_);
  return end_turn(cudaGraphLaunch(recording.graph(), stream_) == cudaSuccess);
}

Recording::Recording(cudaStream_t stream, const std::function<bool()>& launch_all) {
  cudaGraph_t captured = nullptr;
  if (cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess) {
    const bool launched = launch_all();
    if (cudaStreamEndCapture(stream, &captured) == cudaSuccess && launched &&
        cudaGraphInstantiate(&graph_, captured, 0) == cudaSuccess)
      cudaGraphLaunch(graph_, stream);
    if (captured != nullptr) cudaGraphDestroy(captured);
  }
  cudaGetLastError();
}

Recording::~Recording() {
  if (graph_ != nullptr) cudaGraphExecDestroy(graph_);
}

}  // namespace troupe::cuda
