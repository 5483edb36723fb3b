// Once, when a model has been placed: the products that its steps will ask for are timed. Few rows:
// every way to cut skinny_gemm, against cuBLASLt; more rows: every algorithm that cuBLASLt offers
// (cublaslt.hpp). The head is timed with its logits written and with tokens in their place. Weights
// and inputs are noise in memory of its own, given back at the end; where there is no room for it
// nothing is tuned, and the choices made from shapes alone hold.
#include <algorithm>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "base/log.hpp"
#include "kernels/cuda/elementwise.hpp"
#include "kernels/cuda/tuning.hpp"

namespace troupe::cuda {
namespace {

// Above kRowsSkinny: at 64 rows a cut of skinny_gemm that wins alone loses in a step (5.83 against
// 5.57 ms, 8B), so only cuBLASLt's candidates are timed, and the rule from shapes says which kernel
// takes what.
// For more, the first guess of cuBLASLt held against timings taken at the chip's power limit.
constexpr int64_t kRowsLarge[] = {64, 96, 128, 192, 256, 320, 384, 448, kRowsTimed};
// Long prompts: here cuBLASLt's first guess is held against wide_gemm and gated_gemm. Up to
// kRowsRested nothing is timed: these come one at a time, to a chip that is not at its power limit,
// where gated_gemm is quicker if its tiles come out even, and cuBLASLt for the others.
constexpr int64_t kRowsRested = 2048, kRowsPrompt[] = {4096, 8192};
// A tower's: of a small picture, of a large one, of a few, and of all that go at once.
constexpr int64_t kRowsTower[] = {256, 1024, 4096};
constexpr int64_t kElementsLeast = int64_t{1} << 20;  // smaller weights are not worth it
constexpr size_t kWeightPool = size_t{1} << 30;  // well beyond L2
constexpr int kLaunches = 8, kRounds = 3;
constexpr int64_t kManyOutputs = 65536;  // a product of so many shows its speed at once
constexpr int64_t kCountsLoaded = 16;
// One after the other, launches of ours overlap as they do not between a step's other kernels: what
// wins alone by less than this loses in a step (o at 64 rows: 12,005 against 12,270 tok/s).
constexpr double kOverlapMs = 0.002;
// A gate apart costs a launch and three passes over the inner rows, at about this speed.
constexpr double kGateLaunchMs = 0.002, kGateBytesPerMs = 3e9;
// So do logits, read again for the likeliest of each row: what giving out tokens costs either way
// is left out.
constexpr double kReadLaunchMs = 0.002, kReadBytesPerMs = 2e9;

// Every height of a tile with every number of parts, for more rows than these.
struct Heights {
  int rows_above;
  std::vector<int> strips, parts;
};

std::vector<SkinnyCut> cuts_of(int rows, const std::vector<Heights>& table) {
  std::vector<SkinnyCut> all;
  for (const Heights& h : table) {
    if (rows <= h.rows_above) continue;
    for (const int parts : h.parts) {
      for (const int strips : h.strips) all.push_back({true, strips, parts});
    }
  }
  return all;
}

// What the sums of a product of another's cost beside it, where ours takes that along.
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

std::string name_of(const SkinnyCut& cut) {
  if (!cut.skinny) return "others";
  return "skinny " + std::to_string(cut.strips) + " x " + std::to_string(cut.parts);
}

std::string name_of(const LargeCut& cut) {
  if (const auto* wide = std::get_if<WideCut>(&cut)) {
    return "wide " + std::to_string(wide->tokens) + " x " + std::to_string(wide->parts) +
           ", clusters of " + std::to_string(wide->cluster);
  }
  const auto* tile = std::get_if<GatedTile>(&cut);
  return tile == nullptr ? "others" : "gated " + std::to_string(tile->rows);
}

// What was chosen and why, for whoever asks why one process is slower than another.
void note_choice(const Gemm& g, SumsTo sums_to, const std::string& chosen, double best_ms,
                 double others_ms) {
  if (!log_wanted(LogLevel::debug)) return;
  static constexpr const char* kTo[] = {"", ", gated", ", likeliest"};
  const auto us = [](double ms) {
    const auto tenths = static_cast<int64_t>(std::min(ms, 1e6) * 1e4 + 0.5);  // kNever fits none
    return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " us";
  };
  log(LogLevel::debug, "cuda: product of " + std::to_string(g.m) + " rows, " +
                           std::to_string(g.k) + " to " + std::to_string(g.n) +
                           kTo[static_cast<int>(sums_to)] + ": " + chosen + ", " + us(best_ms) +
                           "; others " + us(others_ms));
}

}  // namespace

// What takes more rows reads more of them again for every tile: there higher ones are worth a try.
std::vector<SkinnyCut> cuts_that_meet(int rows) {
  return cuts_of(
      rows, {{0, {4, 3, 2}, {1, 2, 4}}, {8, {8, 7, 6}, {1, 2, 4}}, {16, {16, 14, 12}, {1}}});
}

// Of one part alone there is nothing to add up.
std::vector<SkinnyCut> cuts_left_apart(int rows) {
  return cuts_of(
      rows, {{0, {4, 3, 2}, {2, 3, 4}}, {8, {8, 6}, {2, 3, 4}}, {16, {16, 12}, {2, 3, 4}}});
}

void CudaBackend::remember_product(const LinearPart& part) {
  const Matrix& w = part.values;
  if (w.dtype == DType::f32 || w.rows * w.cols < kElementsLeast) return;
  products_.insert({w.rows, w.cols, w.dtype, static_cast<bool>(part.bias), part.group_size == 2});
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

double CudaBackend::time_launches(const Bench& b,
                                  const std::function<cudaError_t(const void*)>& launch) {
  const bool is_long = b.gemm.m > kRowsTimed || b.gemm.n >= kManyOutputs;
  const int launches = is_long ? 2 : kLaunches;
  double best = kNever;
  for (int round = 0; round < kRounds; ++round) {
    cudaEventRecord(b.begin, stream_);
    for (int i = 0; i < launches; ++i) {
      if (launch(b.weights[static_cast<size_t>(i) % b.weights.size()]) != cudaSuccess) {
        cudaGetLastError();
        return kNever;
      }
    }
    cudaEventRecord(b.end, stream_);
    float ms = 0;
    if (cudaEventSynchronize(b.end) != cudaSuccess ||
        cudaEventElapsedTime(&ms, b.begin, b.end) != cudaSuccess)
      return kNever;
    if (round > 0) best = std::min(best, static_cast<double>(ms) / launches);
  }
  return best;
}

GemmOperands CudaBackend::operands_of(const Bench& b) const {
  GemmOperands g;
  g.m = static_cast<int>(b.gemm.m);
  g.n = static_cast<int>(b.gemm.n);
  g.k = static_cast<int>(b.gemm.k);
  g.dtype = b.gemm.dtype;
  g.input = b.gemm.input;
  g.input_stride = b.gemm.input_stride;
  g.output = b.gemm.output;
  g.output_f32 = b.gemm.output_dtype == DType::f32;
  g.gated_silu = b.sums_to == SumsTo::gate;
  g.likeliest = b.sums_to == SumsTo::likeliest ? greedy_rows_.as<GreedyRow>() : nullptr;
  g.output_stride = g.gated_silu ? b.gemm.n / 2 : b.gemm.n;
  g.partials = partials_.as<float>();
  g.counters = counters_.as<uint32_t>();
  return g;
}

double CudaBackend::time_cut(const Bench& b, const SkinnyCut& cut) {
  SkinnyGemm g{operands_of(b)};
  g.strips = cut.strips;
  g.parts = cut.parts;
  return time_launches(b, [&](const void* weight) {
    g.weight = weight;
    return skinny_gemm(g, multiprocessors_, stream_);
  });
}

double CudaBackend::time_large(const Bench& b, const LargeCut& cut) {
  GemmOperands g = operands_of(b);
  g.weight = b.weights[0];
  if (const auto* wide = std::get_if<WideCut>(&cut)) {
    const WideGemm a{g, *wide};
    if (!wide_gemm_fits(a) || !wide_cut_fits(a, multiprocessors_)) return kNever;
  } else if (!gated_gemm_fits({g, std::get<GatedTile>(cut)})) {
    return kNever;
  }
  return time_launches(b, [&](const void* weight) {
    g.weight = weight;
    return run_large(g, cut);
  });
}

// Keeps the quickest cut of skinny_gemm for b.gemm.m rows, where it beats the others. Says what the
// best takes.
double CudaBackend::tune_few(const Bench& b, double others_ms) {
  SkinnyCut best = {false, 0, 0};
  double best_ms = others_ms;
  for (const SkinnyCut& cut : cuts_that_meet(static_cast<int>(b.gemm.m))) {
    const double ms = time_cut(b, cut);
    if (ms >= best_ms) continue;
    best_ms = ms;
    best = cut;
  }
  note_choice(b.gemm, b.sums_to, name_of(best), best_ms, others_ms);
  cuts_[{b.gemm.n, b.gemm.k, b.sums_to}][b.gemm.m] = best;
  return best_ms;
}

// Keeps our best kernel and its cut for b.gemm.m rows, where it beats the others. Says what the
// best takes.
double CudaBackend::tune_large(const Bench& b, double others_ms) {
  const bool gated = b.sums_to == SumsTo::gate;
  LargeCut best;
  double best_ms = others_ms * kOursWorthwhile;
  const auto consider = [&](const LargeCut& cut) {
    const double ms = time_large(b, cut);
    if (ms >= best_ms) return;
    best_ms = ms;
    best = cut;
  };
  const int64_t m = b.gemm.m, most = std::min<int64_t>((m + 63) / 64 * 64, 256);
  const bool prompt = m > kRowsRested;
  // 64 rows are half of the smaller tile: what wins alone there lost in a step.
  for (const int rows : {128, 256}) {
    if (gated && (rows == 256 ? m > 128 : m > 64 && m <= kRowsTimed)) consider(GatedTile{rows});
  }
  for (const int tokens : {64, 128, 192, 256}) {
    if (tokens > most || tokens * 2 < most || (prompt && tokens != most)) continue;
    for (const int parts : {0, 1, 2, 3, 4}) {
      // Only few tiles are worth equal parts; only wide products fill clusters of four.
      if (gated ? parts > 1 : parts == 1) continue;
      if (prompt && parts > 1) continue;
      for (const int cluster : {2, 4}) {
        if (cluster == 2 || (gated && !prompt)) consider(WideCut{tokens, parts, cluster});
      }
    }
  }
  note_choice(b.gemm, b.sums_to, name_of(best), best_ms, others_ms);
  larges_[{b.gemm.n, b.gemm.k, b.sums_to}][m] = best;
  return is_ours(best) ? best_ms : others_ms;
}

// Prompts come with any number of rows: what cuBLASLt takes for sixteen counts an octave is loaded
// here.
Status CudaBackend::load_guesses(const Bench& b, int64_t rows_most) {
  Gemm g = b.gemm;
  for (int64_t octave = kRowsTimed; octave < rows_most; octave *= 2) {
    for (int64_t part = 1; part <= kCountsLoaded; ++part) {
      g.m = std::min(octave + octave * part / kCountsLoaded, rows_most);
      TR_TRY(lt_->load_guess(g, gemm_workspace_.as(), gemm_workspace_.bytes(), stream_));
    }
  }
  return ok_status();
}

Status CudaBackend::tune_product(const ProductShape& s, Bench& b, int64_t rows_most) {
  Tuning t;
  t.weights = b.weights;
  t.workspace = gemm_workspace_.as();
  t.workspace_bytes = gemm_workspace_.bytes();
  const SumsTo usual = s.gated ? SumsTo::gate : SumsTo::output;
  const bool is_head = b.gemm.output_dtype == DType::f32;
  for (const int rows : kRowsSkinny) {
    if (rows > rows_most || major_ != 9) break;
    b.gemm.m = rows;
    t.gemm = b.gemm;
    TR_ASSIGN(const double others, lt_->tune(t, stream_));
    b.sums_to = usual;
    const double best = tune_few(b, others + beside_ms(usual, rows, s.n));
    if (!is_head) {
      tune_apart(s, b);
      continue;
    }
    b.sums_to = SumsTo::likeliest;
    tune_few(b, best + beside_ms(b.sums_to, rows, s.n));
  }
  for (const int64_t rows : kRowsLarge) {
    if (rows > rows_most) break;
    b.gemm.m = rows;
    t.gemm = b.gemm;
    TR_ASSIGN(double others, lt_->tune(t, stream_));
    if (major_ != 9) continue;
    b.sums_to = usual;
    others += beside_ms(usual, rows, s.n) - kOverlapMs;
    if (rows <= kSkinnyRowsMax) others = std::min(others, time_cut(b, {}));
    const double best = tune_large(b, others);
    if (!is_head) continue;
    b.sums_to = SumsTo::likeliest;
    others = best + beside_ms(b.sums_to, rows, s.n);
    if (rows <= kSkinnyRowsMax) others = std::min(others, time_cut(b, {}));
    tune_large(b, others);
  }
  b.sums_to = usual;
  TR_TRY(load_guesses(b, rows_most));
  if (major_ == 9)
    larges_[{s.n, s.k, usual}][kRowsRested] = s.gated ? LargeCut{GatedTile{}} : LargeCut{};
  for (const int64_t rows : kRowsPrompt) {
    if (rows > rows_most || major_ != 9) break;
    b.gemm.m = rows;
    Gemm g = b.gemm;
    const double others = time_launches(b, [&](const void* weight) {
      g.weight = weight;
      return lt_->multiply(g, t.workspace, t.workspace_bytes, stream_).ok() ? cudaSuccess
                                                                            : cudaErrorUnknown;
    });
    tune_large(b, others + beside_ms(usual, rows, s.n));
  }
  return ok_status();
}

// Towers: cuBLASLt's candidates alone, for many rows.
Status CudaBackend::tune_tower(Bench& b) {
  Tuning t;
  t.weights = b.weights;
  t.workspace = gemm_workspace_.as();
  t.workspace_bytes = gemm_workspace_.bytes();
  const auto tune = [&](int64_t rows) -> Status {
    b.gemm.m = rows;
    t.gemm = b.gemm;
    return lt_->tune(t, stream_).status();
  };
  for (const int64_t rows : kRowsTower) {
    if (rows < rows_max_) TR_TRY(tune(rows));
  }
  return tune(rows_max_);
}

Status CudaBackend::tune_products() {
  const std::set<ProductShape> shapes = std::exchange(products_, {});
  if (rows_independent_ || lt_ == nullptr) return ok_status();  // one way for all row counts
  if (major_ < 8) return ok_status();  // cuBLASLt has one way for f16 and none for bf16 there
  if (!decodes_ && rows_max_ < kRowsTower[0]) return ok_status();
  size_t weight = 0, input = 0, output = 0;
  for (const ProductShape& s : shapes) {
    weight = std::max(weight, static_cast<size_t>(s.n * s.k) * 2);
    input = std::max(input, static_cast<size_t>(s.k) * static_cast<size_t>(rows_max_) * 2);
    const bool head = s.n == vocab_;
    output = std::max(output, static_cast<size_t>(s.n) * (head ? 4 : 2) *
                                  static_cast<size_t>(head ? logit_rows_max_ : rows_max_));
    output = std::max(output, norm_room(s));
  }
  if (weight == 0) return ok_status();
  weight = std::max(weight, kWeightPool);
  if (info().memory_free < 2 * (weight + input + output)) return ok_status();
  TR_ASSIGN(const auto weights, allocate_device(weight, "timing products"));
  TR_ASSIGN(const auto inputs, allocate_device(input, "timing products"));
  TR_ASSIGN(const auto outputs, allocate_device(output, "timing products"));
  TR_TRY(status_of(fill_noise(weights->data(), weight / 2, stream_), "timing products"));
  TR_TRY(status_of(fill_noise(inputs->data(), input / 2, stream_), "timing products"));
  Bench b;
  TR_TRY(status_of(cudaEventCreate(&b.begin), "timing products"));
  TR_TRY(status_of(cudaEventCreate(&b.end), "timing products"));
  Status status;
  for (const ProductShape& s : shapes) {
    const bool head = s.n == vocab_;
    const size_t bytes = static_cast<size_t>(s.n * s.k) * 2, step = (bytes + 255) / 256 * 256;
    b.weights.clear();
    for (size_t at = 0; at + bytes <= weight && b.weights.size() < 32; at += step)
      b.weights.push_back(static_cast<const std::byte*>(weights->data()) + at);
    b.gemm = {0,
              s.n,
              s.k,
              s.dtype,
              head ? DType::f32 : s.dtype,
              b.weights[0],
              inputs->data(),
              s.k,
              s.bias ? weights->data() : nullptr,
              outputs->data(),
              s.n};
    if (!status.ok()) break;
    status = decodes_ ? tune_product(s, b, head ? logit_rows_max_ : rows_max_) : tune_tower(b);
  }
  cudaEventDestroy(b.begin);
  cudaEventDestroy(b.end);
  TR_TRY(status);
  TR_TRY(status_of(cudaMemsetAsync(greedy_rows_.as(), 0, greedy_rows_.bytes(), stream_),
                   "timing products"));
  return status_of(cudaStreamSynchronize(stream_), "timing products");
}

}  // namespace troupe::cuda
