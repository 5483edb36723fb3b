// Once, when a model has been placed: the products that its steps will ask for are timed, for the
// row counts that steps have. Few rows: every way to cut skinny_gemm, against cuBLASLt, alone, and
// with parts that the next norm adds up, in layers; more rows: every algorithm that cuBLASLt offers
// (cublaslt.hpp), the best of them against kernels of our own, in layers (tuning_ways.cpp). The head
// and prompts are timed alone, the head with its logits written and with tokens in their place.
// Weights and inputs are noise in memory of its own, given back at the end; where there is no room
// for it nothing is tuned, and the choices made from shapes alone hold.
#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/cuda/elementwise.hpp"
#include "kernels/cuda/tuning.hpp"

namespace troupe::cuda {
namespace {

// Above these the first guess of cuBLASLt held against timings taken at the chip's power limit.
constexpr int64_t kRowsLarge[] = {64, 96, 128, 192, 256, 320, 384, 448, kRowsTimed};
// Long prompts: here cuBLASLt's first guess is held against wide_gemm and gated_gemm. Up to
// kRowsRested nothing is timed: these come one at a time, to a chip that is not at its power limit,
// where gated_gemm is quicker if its tiles come out even, and cuBLASLt for the others.
constexpr int64_t kRowsRested = 2048, kRowsPrompt[] = {4096, 8192};
// A tower's: of a small picture, of a large one, of a few, and of all that go at once.
constexpr int64_t kRowsTower[] = {256, 1024, 4096};
constexpr size_t kWeightPool = size_t{1} << 30;  // well beyond L2
constexpr size_t kWeightsMost = 32, kCopiesMost = 8;
constexpr int64_t kCountsLoaded = 16;
constexpr size_t kTimingBeside = size_t{512} << 20;  // left free while products are timed
// What does not begin before the kernel in front has ended costs about so much more in a step than
// alone.
constexpr double kEdgeMs = 0.002;
// A gate apart costs a launch and three passes over the inner rows, at about this speed.
constexpr double kGateLaunchMs = 0.002, kGateBytesPerMs = 3e9;
// So do logits, read again for the likeliest of each row: what giving out tokens costs either way
// is left out.
constexpr double kReadLaunchMs = 0.002, kReadBytesPerMs = 2e9;

}  // namespace

double beside_ms(SumsTo sums_to, int64_t rows, int64_t outputs) {
  const auto sums = static_cast<double>(rows * outputs);
  switch (sums_to) {
    case SumsTo::gate:
      return kGateLaunchMs + 3.0 * sums / kGateBytesPerMs;
    case SumsTo::likeliest:
      return kReadLaunchMs + 4.0 * sums / kReadBytesPerMs;
    default:
      return 0.0;
  }
}

void CudaBackend::remember_product(const LinearPart& part) {
  const Matrix& w = part.values;
  if (w.dtype == DType::f32 || w.rows * w.cols < kElementsLeast) return;
  const ProductShape shape{w.rows, w.cols, w.dtype, static_cast<bool>(part.bias),
                           part.group_size == 2};
  if (std::find(products_.begin(), products_.end(), shape) == products_.end())
    products_.push_back(shape);
}

const SkinnyCut* CudaBackend::cut_of(const SkinnyGemm& g) const {
  for (const int rows : kRowsSkinny) {
    if (g.m > rows) continue;
    const auto shape = cuts_.find({g.n, g.k, g.sums_to()});
    if (shape == cuts_.end()) return nullptr;
    const auto found = shape->second.find(rows);
    return found == shape->second.end() ? nullptr : &found->second;
  }
  return nullptr;
}

Status CudaBackend::tune_cublaslt(Bench& b) {
  TR_ASSIGN(b.others_ms, lt_->tune(b.gemm, gemm_workspace_.as(), gemm_workspace_.bytes(), b.clock,
                                   stream_));
  return ok_status();
}

// Only a norm that adds to a residual takes parts: that of the next product's input, more or less.
bool CudaBackend::feeds_norm(const Bench& b) {
  if (b.layer == nullptr || b.shape.gated || b.shape.bias || b.gemm.n % 8 != 0) return false;
  const auto& products = b.layer->products;
  return products[(b.place + 1) % products.size()]->gemm.k == b.gemm.n;
}

void CudaBackend::tune_few_rows(Bench& b) {
  const double others = b.others_ms + kEdgeMs + beside_ms(b.sums_to, b.gemm.m, b.gemm.n);
  const double best = settle_alone(b, ways_of_few_rows(b, others));
  if (feeds_norm(b)) settle_in_layers(b, ways_before_norm(b));
  if (!b.is_head()) return;
  b.sums_to = SumsTo::likeliest;
  settle_alone(b, ways_of_few_rows(b, best + beside_ms(b.sums_to, b.gemm.m, b.gemm.n)));
  b.sums_to = b.usually();
}

void CudaBackend::tune_many_rows(Bench& b) {
  if (!b.is_head()) {
    settle_in_layers(b, heat(b, ways_of_many_rows(b)));
    return;
  }
  const double best = settle_alone(b, ways_of_many_rows(b));
  b.sums_to = SumsTo::likeliest;
  Ways ways = ways_of_many_rows(b);
  if (b.gemm.m > kSkinnyRowsMax) {
    ways[0].launch = {};
    ways[0].ms = best + beside_ms(b.sums_to, b.gemm.m, b.gemm.n);
  }
  settle_alone(b, ways);
  b.sums_to = b.usually();
}

// Prompts come with any number of rows: what cuBLASLt takes for sixteen counts an octave is loaded
// here.
Status CudaBackend::load_guesses(const Bench& b) {
  Gemm g = b.gemm;
  for (int64_t octave = kRowsTimed; octave < b.rows_most; octave *= 2) {
    for (int64_t part = 1; part <= kCountsLoaded; ++part) {
      g.m = std::min(octave + octave * part / kCountsLoaded, b.rows_most);
      TR_TRY(lt_->load_guess(g, gemm_workspace_.as(), gemm_workspace_.bytes(), stream_));
    }
  }
  return ok_status();
}

void CudaBackend::tune_prompts(Bench& b) {
  if (major_ != 9) return;
  const ProductShape& s = b.shape;
  larges_[{s.n, s.k, b.sums_to}][kRowsRested] = s.gated ? LargeCut{GatedTile{}} : LargeCut{};
  for (const int64_t rows : kRowsPrompt) {
    if (rows > b.rows_most) break;
    b.gemm.m = rows;
    Ways ways = ways_of_many_rows(b);
    ways[0].launch = [&](const void* weight) { return by_cublaslt(b, weight); };
    settle_alone(b, ways);
  }
}

// Towers: cuBLASLt's candidates alone, for many rows.
Status CudaBackend::tune_tower(Bench& b) {
  for (const int64_t rows : kRowsTower) {
    if (rows >= b.rows_most) break;
    b.gemm.m = rows;
    TR_TRY(tune_cublaslt(b));
  }
  b.gemm.m = b.rows_most;
  return tune_cublaslt(b);
}

// What cuBLASLt takes for so many rows is settled before any of ours is held against it: a layer
// holds all products.
Status CudaBackend::tune_rows(const Benches& all, int64_t rows, void (CudaBackend::*ways)(Bench&)) {
  for (const auto& b : all) {
    b->gemm.m = rows;
    if (rows <= b->rows_most) TR_TRY(tune_cublaslt(*b));
  }
  if (major_ != 9) return ok_status();
  for (const auto& b : all) {
    if (rows <= b->rows_most) (this->*ways)(*b);
  }
  for (const auto& b : all) {
    if (rows <= b->rows_most && rows <= kRowsSlimMost) tune_slim(*b);
  }
  return ok_status();
}

Status CudaBackend::tune_steps(const Benches& all) {
  Layer layer;
  for (const auto& b : all) {
    if (b->is_head()) continue;
    b->layer = &layer;
    b->place = layer.products.size();
    layer.products.push_back(b.get());
    layer.bytes += weight_bytes_of(b->gemm.n * b->gemm.k);
  }
  layer.copies = static_cast<int>(
      std::clamp<size_t>(kWeightPool / std::max<size_t>(layer.bytes, 1), 1, kCopiesMost));
  for (const auto& b : all) {
    for (const SumsTo to : {SumsTo::output, SumsTo::gate, SumsTo::likeliest})
      slim_choices_.erase({b->gemm.n, b->gemm.k, to});  // of an earlier tuning
    TR_TRY(find_slims(*b));
  }
  for (const int rows : kRowsSkinny) {
    if (major_ == 9) TR_TRY(tune_rows(all, rows, &CudaBackend::tune_few_rows));
  }
  for (const int64_t rows : kRowsLarge)
    TR_TRY(tune_rows(all, rows, &CudaBackend::tune_many_rows));
  for (const auto& b : all) {
    TR_TRY(load_guesses(*b));
    tune_prompts(*b);
  }
  return ok_status();
}

// Memory for timing: weights taken in turn, or as a layer has them side by side; what a layer's
// products read, hand on and add to.
struct CudaBackend::Noise {
  size_t weight = kWeightPool, input = 0, output = 0;
  std::unique_ptr<DeviceBuffer> weights, inputs, outputs;
  static std::byte* at(const std::unique_ptr<DeviceBuffer>& buffer, size_t offset = 0) {
    return static_cast<std::byte*>(buffer->data()) + offset;
  }
};

CudaBackend::Noise CudaBackend::noise_for(const std::vector<ProductShape>& shapes) const {
  Noise need;
  size_t layer = 0;
  const auto rows = static_cast<size_t>(rows_max_);
  for (const ProductShape& s : shapes) {
    const auto n = static_cast<size_t>(s.n), k = static_cast<size_t>(s.k);
    need.weight = std::max(need.weight, weight_bytes_of(s.n * s.k));
    need.input = std::max(need.input, k * rows * 2);
    if (s.n == vocab_) {
      need.output = std::max(need.output, n * 4 * static_cast<size_t>(logit_rows_max_));
      continue;
    }
    layer += weight_bytes_of(s.n * s.k);
    need.output = std::max(need.output, n * (s.gated ? 3 : 2) * rows);  // a gate apart: half more
  }
  need.weight = std::max(need.weight, layer);
  need.output = std::max(need.output, need.input);
  return need;
}

Status CudaBackend::make_noise(Noise& noise) {
  const auto fill = [this](std::unique_ptr<DeviceBuffer>& buffer, size_t bytes) -> Status {
    TR_ASSIGN(buffer, allocate_device(bytes, "timing products"));
    return status_of(fill_noise(buffer->data(), bytes / 2, stream_), "timing products");
  };
  TR_TRY(fill(noise.weights, noise.weight));
  TR_TRY(fill(noise.inputs, 2 * noise.input));  // residuals behind them
  return fill(noise.outputs, noise.output);
}

CudaBackend::Benches CudaBackend::benches_of(const std::vector<ProductShape>& shapes,
                                             const Noise& noise) const {
  Benches all;
  size_t home = 0;
  for (const ProductShape& s : shapes) {
    const bool head = s.n == vocab_;
    const size_t bytes = weight_bytes_of(s.n * s.k);
    std::vector<const void*> turns;
    for (size_t at = 0; at + bytes <= noise.weight && turns.size() < kWeightsMost; at += bytes)
      turns.push_back(Noise::at(noise.weights, at));
    Bench& b = *all.emplace_back(std::make_unique<Bench>(std::move(turns), stream_));
    b.shape = s;
    b.sums_to = b.usually();
    b.rows_most = head ? logit_rows_max_ : rows_max_;
    b.gemm = {0,
              s.n,
              s.k,
              s.dtype,
              head ? DType::f32 : s.dtype,
              noise.weights->data(),
              noise.inputs->data(),
              s.k,
              s.bias ? noise.weights->data() : nullptr,
              noise.outputs->data(),
              s.n};
    b.norm.input = {noise.outputs->data(), s.dtype, 0, s.k, s.k};
    b.norm.residual = {Noise::at(noise.inputs, noise.input), s.dtype, 0, s.k, s.k};
    b.norm.weight = {noise.weights->data(), s.dtype, 1, s.k, s.k};
    b.norm.output = {noise.inputs->data(), s.dtype, 0, s.k, s.k};
    b.weight = Noise::at(noise.weights, home);
    if (!head) home += bytes;
  }
  return all;
}

// And what others may ask for meanwhile.
size_t CudaBackend::timing_bytes(const std::vector<ProductShape>& shapes) const {
  const Noise need = noise_for(shapes);
  return need.weight + 2 * need.input + need.output + kTimingBeside;
}

Status CudaBackend::tune_products() {
  const std::vector<ProductShape> shapes = std::exchange(products_, {});
  if (rows_independent_ || lt_ == nullptr) return ok_status();  // one way for all row counts
  if (major_ < 8) return ok_status();  // cuBLASLt has one way for f16 and none for bf16 there
  if (shapes.empty() || (!decodes_ && rows_max_ < kRowsTower[0])) return ok_status();
  if (info().memory_free < timing_bytes(shapes)) return ok_status();
  Noise noise = noise_for(shapes);
  TR_TRY(make_noise(noise));
  const Benches all = benches_of(shapes, noise);
  if (decodes_) {
    TR_TRY(tune_steps(all));
  } else {
    for (const auto& b : all) TR_TRY(tune_tower(*b));
  }
  TR_TRY(status_of(cudaMemsetAsync(greedy_rows_.as(), 0, greedy_rows_.bytes(), stream_),
                   "timing products"));
  return status_of(cudaStreamSynchronize(stream_), "timing products");
}

}  // namespace troupe::cuda
