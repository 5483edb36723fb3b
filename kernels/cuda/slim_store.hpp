// The slim copies (slim_weight.hpp) of a model's weights: which weights may have one, which have,
// and where it lies. Copies are made when all that steps need has its memory, of what is left, and
// of all weights of a shape or of none: steps take one way for all layers. A copy goes when its
// weight goes, and when nobody wants those of its shape.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/status.hpp"
#include "kernels/backend.hpp"
#include "kernels/cuda/slim_weight.hpp"

namespace troupe::cuda {

// Where copies are made.
class SlimPacker {
 public:
  virtual ~SlimPacker() = default;
  virtual Result<std::unique_ptr<DeviceBuffer>> allocate(size_t bytes) = 0;
  // Weights of one shape, each into its copy. False: one of them has more values outside its
  // windows than its list holds.
  virtual Result<bool> pack(const SlimShape& shape, const std::vector<const void*>& weights,
                            const std::vector<void*>& copies) = 0;
};

class DeviceSlimPacker final : public SlimPacker {
 public:
  explicit DeviceSlimPacker(cudaStream_t stream) : stream_(stream) {}
  Result<std::unique_ptr<DeviceBuffer>> allocate(size_t bytes) override;
  Result<bool> pack(const SlimShape& shape, const std::vector<const void*>& weights,
                    const std::vector<void*>& copies) override;

 private:
  cudaStream_t stream_;
};

struct SlimRoom {
  size_t bytes = 0;  // that copies may take
  size_t alike_most = 0;  // more weights of one shape are experts', which no slim product reads
};

enum class SlimFate : uint8_t { packed, no_room, experts, strays };
struct SlimOutcome {
  SlimShape shape;
  size_t weights = 0;
  SlimFate fate = SlimFate::packed;
};
// For people: what was packed, and why the rest was not.
std::string text_of(const std::vector<SlimOutcome>& outcomes);

class SlimStore {
 public:
  struct Slim {
    const void* data = nullptr;
    bool paired = false;
  };

  // The weight may have a copy from now on, until the buffer that is given back for it goes.
  static std::unique_ptr<DeviceBuffer> watch(const std::shared_ptr<SlimStore>& store,
                                             const SlimShape& shape,
                                             std::unique_ptr<DeviceBuffer> weight);

  // Copies of what has none yet, the largest weights first: they gain most for their bytes.
  Result<std::vector<SlimOutcome>> pack(const SlimRoom& room, SlimPacker& packer);

  [[nodiscard]] Slim of(const void* weight) const;  // data null: it has none
  [[nodiscard]] std::vector<const void*> all_of(const SlimShape& shape) const;
  [[nodiscard]] std::vector<SlimShape> shapes() const;  // of which there are copies
  void give_back(const SlimShape& shape);  // for good
  [[nodiscard]] size_t bytes() const;  // of all copies

 private:
  class Watched;
  struct Entry {
    SlimShape shape;
    std::unique_ptr<DeviceBuffer> copy;
    bool refused = false;  // it did not fit, or was given back
  };
  // Weights of one shape that wait for copies.
  struct Group {
    SlimShape shape;
    std::vector<const void*> weights;
  };

  void forget(const void* weight);
  [[nodiscard]] std::vector<Group> waiting() const;
  Result<SlimFate> pack(const Group& group, const SlimRoom& room, SlimPacker& packer);

  std::unordered_map<const void*, Entry> entries_;  // by weight
};

}  // namespace troupe::cuda
