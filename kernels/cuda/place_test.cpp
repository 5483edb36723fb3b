// What has been placed is on the device: whatever else it copies meanwhile, the next op reads it.
#include <gtest/gtest.h>

#include <string>

#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/cuda/test_support.hpp"
#include "kernels/ops_suite/lab.hpp"
#include "kernels/ops_suite/plans.hpp"

namespace troupe::cuda {
namespace {

using ops_suite::Lab;

// Copies to the device that keep its copy engines busy for some tens of milliseconds.
class BusyCopies {
 public:
  BusyCopies() {
    cudaMallocHost(&host_, kBytes);
    cudaMalloc(&device_, kBytes);
    for (cudaStream_t& s : streams_) cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
  }
  ~BusyCopies() {
    for (cudaStream_t s : streams_) cudaStreamDestroy(s);
    cudaFree(device_);
    cudaFreeHost(host_);
  }
  void start() {
    for (cudaStream_t s : streams_) {
      for (int i = 0; i < 2; ++i)
        cudaMemcpyAsync(device_, host_, kBytes, cudaMemcpyHostToDevice, s);
    }
  }
  void end() {
    for (cudaStream_t s : streams_) cudaStreamSynchronize(s);
  }

 private:
  static constexpr size_t kBytes = size_t{256} << 20;
  void *host_ = nullptr, *device_ = nullptr;
  cudaStream_t streams_[4] = {};
};

// Columns cut out of a wider matrix, as a shard's are, take a copy of another kind than whole rows.
TEST(Place, ASliceOfColumnsIsThereWhenAnOpReadsIt) {
  TR_NEEDS_DEVICE();
  auto opened = CudaBackend::open(0);
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  Lab lab(**opened, DType::f16, 1, "place");
  lab.reserve(4, 64, 8, 100);
  BusyCopies busy;
  for (int i = 0; i < 20; ++i) {
    const int64_t in = i % 2 == 0 ? 8 : 2048, out = 40;
    StepPlanDraft draft;
    ops_suite::add_sequence(draft, {.slot = 0, .rows = 16});
    const auto batch = lab.begin(draft, {});
    const auto x = lab.activations(16, in), y = lab.poisoned(16, out);
    busy.start();
    const auto w = lab.linear_weight({out}, in, false, true);
    lab.test.linear(batch.test, {x.test, &w.test, RowSelect::all, y.test});
    lab.plain().linear(batch.plain, {x.plain, &w.plain, RowSelect::all, y.plain});
    lab.compare(y, "slice of " + std::to_string(in) + " columns");
    lab.finish(batch);
    busy.end();
  }
  const auto report = lab.take();
  EXPECT_TRUE(report.ok()) << ops_suite::describe(report);
}

}  // namespace
}  // namespace troupe::cuda
