#include "kernels/cuda/slim_store.hpp"

#include <algorithm>
#include <map>
#include <tuple>

#include "kernels/cuda/device_memory.hpp"

namespace troupe::cuda {
namespace {

constexpr size_t kPage = size_t{2} << 20;  // in which a device gives memory

size_t taken_by(const SlimShape& shape) {
  return (shape.bytes() + kPage - 1) / kPage * kPage;
}

auto key_of(const SlimShape& s) {
  return std::tuple(s.n, s.k, s.paired);
}

std::string name_of(const SlimOutcome& o) {
  return std::to_string(o.weights) + " of " + std::to_string(o.shape.k) + " to " +
         std::to_string(o.shape.n);
}

const char* reason_of(SlimFate fate) {
  switch (fate) {
    case SlimFate::no_room:
      return " (no memory left)";
    case SlimFate::experts:
      return " (experts)";
    case SlimFate::strays:
      return " (exponents spread too widely)";
    case SlimFate::packed:
      break;
  }
  return "";
}

}  // namespace

std::string text_of(const std::vector<SlimOutcome>& outcomes) {
  size_t bytes = 0;
  std::string packed, plain;
  for (const SlimOutcome& o : outcomes) {
    std::string& names = o.fate == SlimFate::packed ? packed : plain;
    names += (names.empty() ? "" : ", ") + name_of(o) + reason_of(o.fate);
    if (o.fate == SlimFate::packed) bytes += o.shape.bytes() * o.weights;
  }
  std::string text = "weights packed beside the plain ones: ";
  text += packed.empty() ? "none" : packed + ", " + std::to_string(bytes >> 20) + " MiB";
  if (!plain.empty()) text += "; not packed: " + plain;
  return text;
}

// ---- on a device ----

Result<std::unique_ptr<DeviceBuffer>> DeviceSlimPacker::allocate(size_t bytes) {
  return allocate_device(bytes, "packed weights");
}

Result<bool> DeviceSlimPacker::pack(const SlimShape& shape, const std::vector<const void*>& weights,
                                    const std::vector<void*>& copies) {
  std::vector<uint32_t> listed(weights.size());
  const size_t bytes = listed.size() * sizeof(uint32_t);
  TR_ASSIGN(const auto counters, allocate_device(bytes, "packing weights"));
  auto* counter = static_cast<uint32_t*>(counters->data());
  TR_TRY(status_of(cudaMemsetAsync(counter, 0, bytes, stream_), "packing weights"));
  for (size_t i = 0; i < weights.size(); ++i) {
    TR_TRY(status_of(slim_pack(shape, weights[i], copies[i], counter + i, stream_),
                     "packing weights"));
  }
  TR_TRY(status_of(cudaMemcpyAsync(listed.data(), counter, bytes, cudaMemcpyDeviceToHost, stream_),
                   "packing weights"));
  TR_TRY(status_of(cudaStreamSynchronize(stream_), "packing weights"));
  return std::all_of(listed.begin(), listed.end(),
                     [&](uint32_t count) { return int64_t{count} <= shape.list_room(); });
}

// ---- weights that come and go ----

// A weight whose copy goes with it: what is placed at its address later is another weight.
class SlimStore::Watched final : public DeviceBuffer {
 public:
  Watched(std::unique_ptr<DeviceBuffer> weight, std::shared_ptr<SlimStore> store)
      : weight_(std::move(weight)), store_(std::move(store)) {}
  ~Watched() override { store_->forget(weight_->data()); }
  [[nodiscard]] void* data() const override { return weight_->data(); }
  [[nodiscard]] size_t bytes() const override { return weight_->bytes(); }
  Status read(void* host, size_t begin, size_t count) const override {
    return weight_->read(host, begin, count);
  }

 private:
  const std::unique_ptr<DeviceBuffer> weight_;
  const std::shared_ptr<SlimStore> store_;
};

std::unique_ptr<DeviceBuffer> SlimStore::watch(const std::shared_ptr<SlimStore>& store,
                                               const SlimShape& shape,
                                               std::unique_ptr<DeviceBuffer> weight) {
  store->entries_.insert_or_assign(weight->data(), Entry{shape, nullptr, false});
  return std::make_unique<Watched>(std::move(weight), store);
}

void SlimStore::forget(const void* weight) {
  entries_.erase(weight);
}

SlimStore::Slim SlimStore::of(const void* weight) const {
  const auto found = entries_.find(weight);
  if (found == entries_.end() || found->second.copy == nullptr) return {};
  return {found->second.copy->data(), found->second.shape.paired};
}

size_t SlimStore::bytes() const {
  size_t sum = 0;
  for (const auto& [weight, entry] : entries_)
    if (entry.copy != nullptr) sum += entry.copy->bytes();
  return sum;
}

std::vector<const void*> SlimStore::all_of(const SlimShape& shape) const {
  std::vector<const void*> all;
  for (const auto& [weight, entry] : entries_) {
    if (entry.copy != nullptr && key_of(entry.shape) == key_of(shape))
      all.push_back(entry.copy->data());
  }
  return all;
}

std::vector<SlimShape> SlimStore::shapes() const {
  std::map<std::tuple<int64_t, int64_t, bool>, SlimShape> by_key;
  for (const auto& [weight, entry] : entries_)
    if (entry.copy != nullptr) by_key.emplace(key_of(entry.shape), entry.shape);
  std::vector<SlimShape> all;
  for (const auto& [key, shape] : by_key) all.push_back(shape);
  return all;
}

void SlimStore::give_back(const SlimShape& shape) {
  for (auto& [weight, entry] : entries_) {
    if (entry.copy == nullptr || key_of(entry.shape) != key_of(shape)) continue;
    entry.copy.reset();
    entry.refused = true;
  }
}

// ---- packing ----

std::vector<SlimStore::Group> SlimStore::waiting() const {
  std::map<std::tuple<int64_t, int64_t, bool>, Group> by_shape;
  for (const auto& [weight, entry] : entries_) {
    if (entry.copy != nullptr || entry.refused) continue;
    Group& group = by_shape[key_of(entry.shape)];
    group.shape = entry.shape;
    group.weights.push_back(weight);
  }
  std::vector<Group> groups;
  for (auto& [key, group] : by_shape) groups.push_back(std::move(group));
  std::stable_sort(groups.begin(), groups.end(), [](const Group& a, const Group& b) {
    return a.shape.bytes() > b.shape.bytes();
  });
  return groups;
}

Result<SlimFate> SlimStore::pack(const Group& group, const SlimRoom& room, SlimPacker& packer) {
  const size_t count = group.weights.size();
  if (count > room.alike_most) return SlimFate::experts;
  if (count * taken_by(group.shape) > room.bytes) return SlimFate::no_room;
  std::vector<std::unique_ptr<DeviceBuffer>> copies;
  std::vector<void*> to;
  for (size_t i = 0; i < count; ++i) {
    auto copy = packer.allocate(group.shape.bytes());
    if (!copy.ok()) return SlimFate::no_room;  // others took it meanwhile
    to.push_back((*copy)->data());
    copies.push_back(std::move(*copy));
  }
  TR_ASSIGN(const bool fit, packer.pack(group.shape, group.weights, to));
  for (size_t i = 0; i < count; ++i) {
    Entry& entry = entries_.at(group.weights[i]);
    entry.refused = !fit;
    if (fit) entry.copy = std::move(copies[i]);
  }
  return fit ? SlimFate::packed : SlimFate::strays;
}

Result<std::vector<SlimOutcome>> SlimStore::pack(const SlimRoom& room, SlimPacker& packer) {
  std::vector<SlimOutcome> outcomes;
  SlimRoom left = room;
  for (const Group& group : waiting()) {
    TR_ASSIGN(const SlimFate fate, pack(group, left, packer));
    if (fate == SlimFate::packed) left.bytes -= group.weights.size() * taken_by(group.shape);
    outcomes.push_back({group.shape, group.weights.size(), fate});
  }
  return outcomes;
}

}  // namespace troupe::cuda
