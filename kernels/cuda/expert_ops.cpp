// A mixture of experts on the CUDA backend: which kernels take it, and the memory they meet in.
#include <algorithm>
#include <utility>

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
  const auto shared = static_cast<size_t>(w.input.rows) * static_cast<size_t>(w.shared_parts);
  carver.take(between, (items + shared) * static_cast<size_t>(w.inner), dtype_bytes(w.dtype));
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

Status CudaBackend::describe(const ExpertsArgs& a, ExpertsWork& w) {
  const RoutingSpec& r = *a.routing;
  w.input = a.input;
  w.logits = a.router_logits;
  w.output = a.output;
  w.routing = {r.score == RouterScore::sigmoid,
               r.renormalise,
               r.experts,
               r.top_k,
               r.groups,
               r.top_groups,
               r.group_score_top,
               r.scale,
               static_cast<const float*>(r.correction.data)};
  w.local = static_cast<int32_t>(a.gate_up.size());
  w.first = a.first_expert;
  w.curve = static_cast<Curve>(a.activation);
  w.rows_independent = rows_independent_;
  w.shared_max = shared_max_;
  w.multiprocessors = multiprocessors_;
  w.dtype = a.input.dtype;
  if (w.local == 0) return ok_status();
  TR_ASSIGN(w.weights, expert_table(a));
  w.inner = static_cast<int32_t>(a.gate_up[0].out / 2);
  w.dtype = a.gate_up[0].parts[0].values.dtype;
  return ok_status();
}

void CudaBackend::run_experts(const Mixture& m) {
  const ExpertsArgs& a = m.routed;
  ExpertsWork all;
  if (Status s = describe(a, all); !s.ok()) return fail(std::move(s));
  if (m.down) share(all, m.up->weight->parts[0], m.down->weight->parts[0]);
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
      const auto items = static_cast<size_t>(count * all.routing.top_k);
      check(cudaMemcpyAsync(const_cast<int32_t*>(w.forced),
                            a.forced.data() + begin * all.routing.top_k, items * 4,
                            cudaMemcpyHostToDevice, stream_),
            "experts");
    }
    check(cuda::experts(w, stream_), "experts");
  }
}

// ---- an expert that all rows share ----

void CudaBackend::experts(const Batch&, const ExpertsArgs& a) {
  flush();
  if (a.input.rows == 0) return;
  ExpertsWork w;
  if (Status s = describe(a, w); !s.ok()) return fail(std::move(s));
  if (a.forced.empty() && experts_stream_fits(w)) {
    mixture_ = Mixture{a, {}, {}, {}};
  } else {
    run_experts({a, {}, {}, {}});
  }
}

// What comes first is multiplied by a weight like the chosen experts', only wider.
bool CudaBackend::joins_mixture(const LinearArgs& a) {
  if (!mixture_ || a.select != RowSelect::all) return false;
  Mixture& m = *mixture_;
  const LinearPart& w = a.weight->parts[0];
  const bool plain = !w.bias && w.values.dtype == a.output.dtype && a.output.rows == a.input.rows;
  if (!m.up) {
    ExpertsWork work;
    const bool same = a.input.data == m.routed.input.data && a.input.rows == m.routed.input.rows &&
                      a.input.cols == m.routed.input.cols && w.group_size == 2;
    if (!plain || !same || !describe(m.routed, work).ok() || w.values.dtype != work.dtype)
      return false;
    share(work, w, {});
    if (work.shared_parts == 0 || !experts_stream_fits(work)) return false;
    m.up = a;
    return true;
  }
  const bool same = m.gate && !m.down && a.input.data == m.gate->output.data &&
                    a.input.rows == m.gate->output.rows && a.input.cols == m.gate->output.cols &&
                    a.output.cols == m.routed.output.cols;
  if (!plain || !same || w.values.dtype != m.up->weight->parts[0].values.dtype) return false;
  m.down = a;
  return true;
}

bool CudaBackend::joins_mixture(const ActivationArgs& a) {
  if (!mixture_ || !mixture_->up || mixture_->gate) return false;
  const Matrix& both = mixture_->up->output;
  if (a.kind != mixture_->routed.activation || a.input.data != both.data ||
      a.input.rows != both.rows || a.input.cols != both.cols || a.output.dtype != both.dtype ||
      a.output.cols * 2 != both.cols)
    return false;
  mixture_->gate = a;
  return true;
}

bool CudaBackend::joins_mixture(const AddArgs& a) {
  if (!mixture_ || !mixture_->down) return false;
  const Matrix &own = mixture_->down->output, &all = mixture_->routed.output;
  if (a.scale != 1.0F || a.input.data != own.data || a.input.rows != own.rows ||
      a.addend.data != all.data || a.output.data != all.data || a.output.rows != all.rows ||
      a.output.cols != all.cols || a.addend.stride != all.stride || a.output.stride != all.stride)
    return false;
  run_experts(*std::exchange(mixture_, std::nullopt));
  return true;
}

// What has come so far of a mixture whose end never came.
void CudaBackend::start_mixture() {
  if (!mixture_) return;
  const Mixture m = *std::exchange(mixture_, std::nullopt);
  run_experts({m.routed, {}, {}, {}});
  if (m.up) whole_linear(*m.up, nullptr);
  if (m.gate) gated_activation(*m.gate);
  if (m.down) whole_linear(*m.down, nullptr);
}

void CudaBackend::share(ExpertsWork& w, const LinearPart& up, const LinearPart& down) {
  const int64_t width = up.values.rows / 2;
  if (w.inner == 0 || width % w.inner != 0) return;
  w.shared_parts = static_cast<int32_t>(width / w.inner);
  w.shared = {up.values.data, nullptr, down.values.data, nullptr};
}

}  // namespace troupe::cuda
