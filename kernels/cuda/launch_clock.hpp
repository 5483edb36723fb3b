// How long launches on a stream take: as they come, over weights taken in turn, so that none stays in
// L2; and recorded, as steps are, where the edges between kernels cost what they cost there.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <vector>

namespace troupe::cuda {

class Recording;

class LaunchClock {
 public:
  // Says whether it could be launched.
  using Launch = std::function<bool(const void* weight)>;

  LaunchClock(std::vector<const void*> weights, cudaStream_t stream);
  ~LaunchClock();
  LaunchClock(const LaunchClock&) = delete;
  LaunchClock& operator=(const LaunchClock&) = delete;

  // Of one launch, the mean of so many; kNever where it cannot run, whose error is cleared.
  double milliseconds(int launches, const Launch& launch);
  double milliseconds(const Recording& recording);  // of all of it

 private:
  bool launch_next(const Launch& launch) { return launch(weights_[next_++ % weights_.size()]); }
  double end_turn(bool launched);

  std::vector<const void*> weights_;
  size_t next_ = 0;
  cudaStream_t stream_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

// Launches that are run again as one.
class Recording {
 public:
  // Starts it once as well. Where something could not be launched it stays empty, and the error is
  // cleared.
  Recording(cudaStream_t stream, const std::function<bool()>& launch_all);
  ~Recording();
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  [[nodiscard]] cudaGraphExec_t graph() const { return graph_; }

 private:
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace troupe::cuda
