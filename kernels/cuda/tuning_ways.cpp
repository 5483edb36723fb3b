// The ways to compute a product, which are timed against each other when a model has been placed:
// cuts of skinny_gemm for few rows, wide_gemm's and gated_gemm's for more, cuBLASLt for both. Each is
// what a step would launch. They are timed alone, or in layers (tuning_layer.cpp).
#include <algorithm>
#include <string>

#include "base/log.hpp"
#include "kernels/cuda/elementwise.hpp"
#include "kernels/cuda/tuning.hpp"

namespace troupe::cuda {
namespace {

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

std::vector<LargeCut> large_cuts(int64_t rows, SumsTo sums_to) {
  std::vector<LargeCut> all;
  const bool prompt = rows > kRowsTimed, gated = sums_to == SumsTo::gate;
  // 64 rows are half of the smaller tile.
  for (const int tile : {128, 256}) {
    if (tile == 256 ? rows <= 128 : rows <= 64 || prompt) continue;
    if (gated) all.emplace_back(GatedTile{tile});
    if (sums_to == SumsTo::likeliest) all.emplace_back(LikeliestTile{tile});
  }
  const int64_t most = std::min<int64_t>((rows + 63) / 64 * 64, 256);
  for (const int tokens : {64, 128, 192, 256}) {
    if (tokens > most || tokens * 2 < most || (prompt && tokens != most)) continue;
    for (const int parts : {0, 1, 2, 3, 4}) {
      // Only few tiles are worth equal parts; only wide products fill clusters of four.
      if (gated ? parts > 1 : parts == 1) continue;
      if (prompt && parts > 1) continue;
      for (const int cluster : {2, 4}) {
        if (cluster == 2 || (gated && !prompt)) all.emplace_back(WideCut{tokens, parts, cluster});
      }
    }
  }
  return all;
}

std::string name_of(const SkinnyCut& cut) {
  return std::to_string(cut.strips) + " x " + std::to_string(cut.parts);
}

std::string name_of(const LargeCut& cut) {
  if (const auto* wide = std::get_if<WideCut>(&cut)) {
    return "wide " + std::to_string(wide->tokens) + " x " + std::to_string(wide->parts) +
           ", clusters of " + std::to_string(wide->cluster);
  }
  if (const auto* head = std::get_if<LikeliestTile>(&cut))
    return "tall " + std::to_string(head->rows);
  return "gated " + std::to_string(std::get<GatedTile>(cut).rows);
}

std::string microseconds(double ms) {
  if (ms >= kNever) return "far behind";
  const auto tenths = static_cast<int64_t>(ms * 1e4 + 0.5);
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " us";
}

constexpr double kFarAlone = 1.15;  // too far to be timed in layers as well
// Timings of equal kernels differ by less; those of layers, which hold other products as well.
constexpr double kOursWorthwhile = 0.99, kLayerWorthwhile = 0.998;

bool launched(cudaError_t error) {
  return error == cudaSuccess;
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

// Keeps the quickest way and says what it takes. The first of them is the others': what is not ours,
// or what holds without a choice; who beats it does so by `margin`.
double CudaBackend::keep_quickest(const Bench& b, const Ways& ways,
                                  const std::vector<double>& times, double margin) {
  size_t best = 0;
  double best_ms = times[0] * margin;
  for (size_t i = 1; i < ways.size(); ++i) {
    if (times[i] >= best_ms) continue;
    best = i;
    best_ms = times[i];
  }
  ways[best].keep();
  if (log_wanted(LogLevel::debug)) {
    static constexpr const char* kTo[] = {"", ", gated", ", likeliest"};
    log(LogLevel::debug, "cuda: product of " + std::to_string(b.gemm.m) + " rows, " +
                             std::to_string(b.gemm.k) + " to " + std::to_string(b.gemm.n) +
                             kTo[static_cast<int>(b.sums_to)] + (b.packed ? ", packed" : "") +
                             ": " + ways[best].name + ", " + microseconds(times[best]) + "; " +
                             ways[0].name + " " + microseconds(times[0]));
  }
  return times[best];
}

std::vector<double> CudaBackend::race_alone(Bench& b, const Ways& ways, const RaceRules& rules) {
  const int launches = effort_for(b.gemm).launches;
  return race(ways.size(), rules, [&](size_t i) {
    return ways[i].launch ? b.clock.milliseconds(launches, ways[i].launch) : ways[i].ms;
  });
}

double CudaBackend::settle_alone(Bench& b, const Ways& ways) {
  return keep_quickest(b, ways, race_alone(b, ways, effort_for(b.gemm).rules), kOursWorthwhile);
}

// Where one is left, or no layer can be recorded, what they took alone stands.
double CudaBackend::settle_in_layers(Bench& b, const Ways& ways) {
  std::vector<double> times(ways.size(), kNever);
  if (ways.size() > 1) times = race_in_layers(b, ways);
  if (std::all_of(times.begin(), times.end(), [](double ms) { return ms >= kNever; }))
    std::transform(ways.begin(), ways.end(), times.begin(), [](const Way& way) { return way.ms; });
  return keep_quickest(b, ways, times, kLayerWorthwhile);
}

// The first, and those that are not far behind alone; with what they took.
CudaBackend::Ways CudaBackend::heat(Bench& b, Ways ways) {
  const std::vector<double> times = race_alone(b, ways, {1, kFarAlone, 1, kFarAlone});
  Ways left;
  for (size_t i = 0; i < ways.size(); ++i) {
    if (i > 0 && times[i] >= kNever) continue;
    left.push_back(std::move(ways[i]));
    left.back().ms = times[i];
  }
  return left;
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

bool CudaBackend::by_cublaslt(const Bench& b, const void* weight) {
  Gemm g = b.gemm;
  g.weight = weight;
  if (!lt_->multiply(g, gemm_workspace_.as(), gemm_workspace_.bytes(), stream_).ok()) return false;
  if (b.sums_to != SumsTo::gate) return true;
  const Matrix wide{g.output, g.dtype, g.m, g.n, g.n};
  const Matrix gated{static_cast<std::byte*>(g.output) + wide.bytes(), g.dtype, g.m, g.n / 2, g.n / 2};
  return launched(cuda::activation(Curve::silu, true, wide, gated, stream_));
}

bool CudaBackend::by_rule(const Bench& b, const void* weight) {
  SkinnyGemm g{operands_of(b)};
  g.weight = weight;
  return takes_skinny(g) ? launched(run_skinny(g)) : by_cublaslt(b, weight);
}

// Every cut of skinny_gemm, against what others take.
CudaBackend::Ways CudaBackend::ways_of_few_rows(Bench& b, double others_ms) {
  auto& kept = cuts_[{b.gemm.n, b.gemm.k, b.sums_to}][b.gemm.m];
  Ways ways = {{"others", {}, [&kept] { kept = {false, 0, 0}; }, others_ms}};
  for (const SkinnyCut& cut : cuts_that_meet(static_cast<int>(b.gemm.m))) {
    SkinnyGemm g{operands_of(b)};
    g.strips = cut.strips;
    g.parts = cut.parts;
    ways.push_back({"skinny " + name_of(cut),
                    [this, g](const void* weight) mutable {
                      g.weight = weight;
                      return launched(skinny_gemm(g, multiprocessors_, stream_));
                    },
                    [&kept, cut] { kept = cut; }});
  }
  return ways;
}

// Parts that the norm of the next product adds up.
CudaBackend::Ways CudaBackend::ways_before_norm(Bench& b) {
  const auto rows = static_cast<int>(b.gemm.m);
  Ways ways = {
      {"whole", [this, &b](const void* weight) { return as_chosen(b, weight); }, [] {}}};
  for (const SkinnyCut& cut : cuts_left_apart(rows)) {
    ways.push_back({"parts apart " + name_of(cut),
                    [this, cut, &b, g = operands_of(b)](const void* weight) mutable {
                      g.weight = weight;
                      b.layer->parts = cut.parts;
                      return launched(leave_parts(g, cut));
                    },
                    [this, cut, rows, &s = b.shape] {
                      aparts_[{static_cast<int>(s.n), static_cast<int>(s.k), rows}] = cut;
                    }});
  }
  return ways;
}

bool CudaBackend::cut_fits(const Bench& b, const LargeCut& cut) const {
  GemmOperands g = operands_of(b);
  g.weight = b.gemm.weight;
  if (const auto* tile = std::get_if<GatedTile>(&cut)) return gated_gemm_fits({g, *tile});
  if (const auto* head = std::get_if<LikeliestTile>(&cut)) return likeliest_gemm_fits({g, *head});
  const WideGemm wide{g, std::get<WideCut>(cut)};
  return wide_gemm_fits(wide) && wide_cut_fits(wide, multiprocessors_);
}

// Our kernels and their cuts, against what a step takes without them.
CudaBackend::Ways CudaBackend::ways_of_many_rows(Bench& b) {
  auto& kept = larges_[{b.gemm.n, b.gemm.k, b.sums_to}][b.gemm.m];
  Ways ways = {{"by rule", [this, &b](const void* weight) { return by_rule(b, weight); },
                [&kept] { kept = LargeCut{}; }}};
  if (takes_skinny(SkinnyGemm{operands_of(b)})) {
    ways.push_back({"cuBLASLt", [this, &b](const void* weight) { return by_cublaslt(b, weight); },
                    [&kept] { kept = ByCublaslt{}; }});
  }
  for (const LargeCut& cut : large_cuts(b.gemm.m, b.sums_to)) {
    if (!cut_fits(b, cut)) continue;
    ways.push_back({name_of(cut),
                    [this, cut, g = operands_of(b)](const void* weight) mutable {
                      g.weight = weight;
                      return launched(run_large(g, cut));
                    },
                    [&kept, cut] { kept = cut; }});
  }
  return ways;
}

}  // namespace troupe::cuda
