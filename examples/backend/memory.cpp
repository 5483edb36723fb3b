#include "memory.hpp"

#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

namespace slate {
namespace {

constexpr size_t kAlignment = 64;

class Buffer final : public troupe::DeviceBuffer {
 public:
  Buffer(std::shared_ptr<Memory> memory, void* data, size_t bytes, size_t taken)
      : memory_(std::move(memory)), data_(data), bytes_(bytes), taken_(taken) {}
  ~Buffer() override {
    std::free(data_);
    memory_->give_back(taken_);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  [[nodiscard]] void* data() const override { return data_; }
  [[nodiscard]] size_t bytes() const override { return bytes_; }

 private:
  std::shared_ptr<Memory> memory_;
  void* data_;
  size_t bytes_, taken_;
};

}  // namespace

troupe::Result<std::unique_ptr<troupe::DeviceBuffer>> Memory::allocate(size_t bytes,
                                                                       std::string_view what) {
  const size_t taken = (bytes + kAlignment) / kAlignment * kAlignment;  // never nothing
  const auto refused = [&] {
    return troupe::Status(troupe::Code::out_of_memory, "slate: " + std::to_string(bytes) +
                                                           " bytes for " + std::string(what) +
                                                           ", " + std::to_string(free()) + " of " +
                                                           std::to_string(total_) + " are free");
  };
  if (used_.fetch_add(taken) + taken > total_) {
    give_back(taken);
    return refused();
  }
  void* const data = std::aligned_alloc(kAlignment, taken);
  if (data == nullptr) {
    give_back(taken);
    return refused();
  }
  std::memset(data, 0, taken);  // what is allocated begins as zeros
  return std::unique_ptr<troupe::DeviceBuffer>(
      std::make_unique<Buffer>(shared_from_this(), data, bytes, taken));
}

}  // namespace slate
