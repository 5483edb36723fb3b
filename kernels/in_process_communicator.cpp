#include "kernels/in_process_communicator.hpp"

#include <algorithm>
#include <barrier>
#include <cstring>

#include "base/assert.hpp"

namespace troupe {
namespace {

struct Meeting {
  explicit Meeting(int32_t size) : barrier(size), data(static_cast<size_t>(size)) {}
  std::barrier<> barrier;
  std::vector<Matrix> data;   // what each rank brought
  std::vector<float> sum;     // rows x cols, dense
};

class InProcessCommunicator final : public Communicator {
 public:
  InProcessCommunicator(std::shared_ptr<Meeting> meeting, int32_t rank, int32_t size)
      : meeting_(std::move(meeting)), rank_(rank), size_(size) {}
  [[nodiscard]] int32_t rank() const override { return rank_; }
  [[nodiscard]] int32_t size() const override { return size_; }
  void all_reduce_sum(const Matrix& data) override;
  void all_gather_columns(const Matrix& in, const Matrix& out) override;

 private:
  Matrix& own() { return meeting_->data[static_cast<size_t>(rank_)]; }
  std::shared_ptr<Meeting> meeting_;
  int32_t rank_;
  int32_t size_;
};

void InProcessCommunicator::all_reduce_sum(const Matrix& data) {
  if (size_ == 1) return;
  TR_ASSERT(data.dtype == DType::f32);
  own() = data;
  const auto cols = static_cast<size_t>(data.cols);
  if (rank_ == 0) meeting_->sum.resize(std::max(meeting_->sum.size(), static_cast<size_t>(data.rows) * cols));
  meeting_->barrier.arrive_and_wait();
  // Each rank adds up its share of the rows …
  const int64_t begin = data.rows * rank_ / size_;
  const int64_t end = data.rows * (rank_ + 1) / size_;
  for (int64_t r = begin; r < end; ++r) {
    float* sum = meeting_->sum.data() + static_cast<size_t>(r) * cols;
    std::memcpy(sum, meeting_->data[0].row<float>(r), cols * sizeof(float));
    for (size_t other = 1; other < meeting_->data.size(); ++other) {
      const float* x = meeting_->data[other].row<float>(r);
      for (size_t c = 0; c < cols; ++c) sum[c] += x[c];
    }
  }
  meeting_->barrier.arrive_and_wait();
  // … and takes all of them.
  for (int64_t r = 0; r < data.rows; ++r) {
    std::memcpy(data.row<float>(r), meeting_->sum.data() + static_cast<size_t>(r) * cols,
                cols * sizeof(float));
  }
  meeting_->barrier.arrive_and_wait();  // nobody reuses the sum before all have read it
}

void InProcessCommunicator::all_gather_columns(const Matrix& in, const Matrix& out) {
  TR_ASSERT(in.dtype == out.dtype && out.cols >= in.cols * size_);
  own() = in;
  meeting_->barrier.arrive_and_wait();
  const auto bytes = static_cast<size_t>(in.cols) * dtype_bytes(in.dtype);
  for (int32_t source = 0; source < size_; ++source) {
    const Matrix& from = meeting_->data[static_cast<size_t>(source)];
    const Matrix to = out.columns(source * in.cols, in.cols);
    for (int64_t r = 0; r < in.rows; ++r) {
      const auto element = static_cast<int64_t>(dtype_bytes(in.dtype));
      std::memcpy(to.row<std::byte>(0) + r * to.stride * element,
                  from.row<std::byte>(0) + r * from.stride * element, bytes);
    }
  }
  meeting_->barrier.arrive_and_wait();
}

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_in_process_communicators(int32_t size) {
  auto meeting = std::make_shared<Meeting>(size);
  std::vector<std::unique_ptr<Communicator>> all;
  for (int32_t rank = 0; rank < size; ++rank) {
    all.push_back(std::make_unique<InProcessCommunicator>(meeting, rank, size));
  }
  return all;
}

}  // namespace troupe
