// A mixture of experts on the CUDA backend: which kernels take it, and the memory they meet in.
#include <algorithm>

#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/cuda/experts.hpp"

namespace troupe::cuda {
namespace {

// A step's rows go through in pieces whose work fits here: what lies between the two products grows
// with rows times chosen experts.
constexpr size_t kWorkBytes = size_t{384} << 20;

size_t rounded(size_t bytes) {
  return (bytes + 255) / 256 * 256;
}

// Gives out parts of an area, or, without one, counts how large it would have to be.
class Carver {
 public:
  explicit Carver(std::byte* base) : base_(base) {}
  template <class T>
  void take(T*& part, size_t count, size_t element = sizeof(T)) {
    if (base_ != nullptr) part = reinterpret_cast<T*>(base_ + used_);
    used_ += rounded(count * element);
  }
  [[nodiscard]] size_t used() const { return used_; }

 private:
  std::byte* base_;
  size_t used_ = 0;
};

size_t carve(ExpertsWork& w, std::byte* base) {
  Carver carver(base);
  const auto items = static_cast<size_t>(w.input.rows) * static_cast<size_t>(w.routing.top_k);
  int32_t* forced = nullptr;
  carver.take(forced, items);
  w.forced = forced;
  carver.take(w.chosen, items);
  carver.take(w.expert_of, items);
  carver.take(w.shares, items);
  auto* between = static_cast<std::byte*>(w.between);
  carver.take(between, items * static_cast<size_t>(w.inner), dtype_bytes(w.dtype));
  w.between = between;
  if (experts_in_tiles(w)) {
    ExpertTiles& t = w.tiles;
    carver.take(t.order, items);
    carver.take(t.place_of, items);
    carver.take(t.tiles, static_cast<size_t>(expert_tiles_max(w)));
    carver.take(t.count, 1);
    auto* results = static_cast<std::byte*>(t.results);
    carver.take(results, items * static_cast<size_t>(w.output.cols), dtype_bytes(w.dtype));
    t.results = results;
  }
  return carver.used();
}

Matrix rows_of(Matrix m, int64_t begin, int64_t count) {
  m.data = static_cast<std::byte*>(m.data) +
           static_cast<size_t>(begin * m.stride) * dtype_bytes(m.dtype);
  m.rows = count;
  return m;
}

// How many rows are worked on together.
int64_t rows_at_once(const ExpertsWork& w) {
  const size_t row = static_cast<size_t>(w.routing.top_k) *
                     static_cast<size_t>(w.inner + w.output.cols) * dtype_bytes(w.dtype);
  const auto fit = static_cast<int64_t>(kWorkBytes / std::max<size_t>(row, 1));
  return std::min(w.input.rows, std::max<int64_t>(fit / 128 * 128, 128));
}

}  // namespace

Result<const ExpertWeights*> CudaBackend::expert_table(const ExpertsArgs& a) {
  // Known again by the weights themselves: the caller's list may move or be another's.
  uint64_t key = 0xCBF29CE484222325ULL;
  for (const auto* list : {&a.gate_up, &a.down}) {
    for (const LinearWeight& w : *list)
      key = (key ^ reinterpret_cast<uintptr_t>(w.parts[0].values.data)) * 0x100000001B3ULL;
  }
  if (const auto found = expert_tables_.find(key); found != expert_tables_.end()) {
    return static_cast<const ExpertWeights*>(found->second->data());
  }
  if (recording_ != nullptr)
    return internal_error("experts: a table is missing while a step is recorded");
  std::vector<ExpertWeights> table;
  for (size_t e = 0; e < a.gate_up.size(); ++e) {
    const LinearPart &up = a.gate_up[e].parts[0], &down = a.down[e].parts[0];
    table.push_back({up.values.data, up.bias.data, down.values.data, down.bias.data});
  }
  TR_ASSIGN(auto buffer,
            allocate_device(table.size() * sizeof(ExpertWeights), "a table of experts"));
  TR_TRY(upload(buffer->data(), table.data(), table.size() * sizeof(ExpertWeights)));
  const auto* placed = static_cast<const ExpertWeights*>(buffer->data());
  expert_tables_.emplace(key, std::move(buffer));
  return placed;
}

void CudaBackend::experts(const Batch&, const ExpertsArgs& a) {
  flush();
  if (a.input.rows == 0) return;
  const RoutingSpec& r = *a.routing;
  ExpertsWork all;
  all.input = a.input;
  all.logits = a.router_logits;
  all.output = a.output;
  all.routing = {r.score == RouterScore::sigmoid,
                 r.renormalise,
                 r.experts,
                 r.top_k,
                 r.groups,
                 r.top_groups,
                 r.group_score_top,
                 r.scale,
                 static_cast<const float*>(r.correction.data)};
  all.local = static_cast<int32_t>(a.gate_up.size());
  all.first = a.first_expert;
  all.curve = static_cast<Curve>(a.activation);
  all.rows_independent = rows_independent_;
  all.shared_max = shared_max_;
  if (all.local > 0) {
    auto table = expert_table(a);
    if (!table.ok()) return fail(table.status());
    all.weights = *table;
    all.inner = static_cast<int32_t>(a.gate_up[0].out / 2);
    all.dtype = a.gate_up[0].parts[0].values.dtype;
  } else {
    all.dtype = a.input.dtype;
  }
  const int64_t step = rows_at_once(all);
  for (int64_t begin = 0; begin < a.input.rows; begin += step) {
    const int64_t count = std::min(step, a.input.rows - begin);
    ExpertsWork w = all;
    w.input = rows_of(a.input, begin, count);
    w.logits = rows_of(a.router_logits, begin, count);
    w.output = rows_of(a.output, begin, count);
    const size_t needed = carve(w, nullptr);
    if (recording_ != nullptr && expert_work_.bytes() < needed)
      return fail(internal_error("experts: no room while a step is recorded"));
    if (Status s = grow(expert_work_, needed, "experts"); !s.ok()) return fail(std::move(s));
    carve(w, expert_work_.as<std::byte>());
    if (a.forced.empty()) {
      w.forced = nullptr;
    } else {
      const auto items = static_cast<size_t>(count) * static_cast<size_t>(r.top_k);
      check(cudaMemcpyAsync(const_cast<int32_t*>(w.forced), a.forced.data() + begin * r.top_k,
                            items * 4, cudaMemcpyHostToDevice, stream_),
            "experts");
    }
    check(cuda::experts(w, stream_), "experts");
  }
}

}  // namespace troupe::cuda
