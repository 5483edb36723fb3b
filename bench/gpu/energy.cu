// What ops of a step of 256 sequences draw: bench_gpu_energy [JSON FILE [PART OF AN OP'S NAME]]. A
// step of so many rows is bound by the chip's power, so what counts there is energy, not time: each
// op is repeated for a second, and stands with its microseconds, watts, millijoules a launch and
// the clock it was left.
#include <dlfcn.h>

#include <chrono>
#include <cstdio>
#include <functional>
#include <string>

#include "bench/gpu/ceilings.cuh"
#include "bench/gpu/decode_scene.cuh"
#include "bench/gpu/large_gemm.hpp"
#include "bench/gpu/measure.cuh"
#include "bench/gpu/products.hpp"
#include "kernels/cuda/elementwise.hpp"
#include "kernels/cuda/gated_gemm.hpp"

namespace troupe::bench {
namespace {

using namespace troupe::cuda;
using Clock = std::chrono::steady_clock;

constexpr int kRows = 256;

double seconds_since(Clock::time_point t) {
  return std::chrono::duration<double>(Clock::now() - t).count();
}

// The driver's counter of what the board has drawn; it moves some ten times a second.
class Meter {
 public:
  Meter() {
    void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    const auto find = [&](const char* name) {
      void* f = library == nullptr ? nullptr : dlsym(library, name);
      if (f == nullptr) {
        std::fprintf(stderr, "no %s in libnvidia-ml.so.1\n", name);
        std::exit(1);
      }
      return f;
    };
    const auto init = reinterpret_cast<int (*)()>(find("nvmlInit_v2"));
    const auto by_index =
        reinterpret_cast<int (*)(unsigned, void**)>(find("nvmlDeviceGetHandleByIndex_v2"));
    energy_ = reinterpret_cast<decltype(energy_)>(find("nvmlDeviceGetTotalEnergyConsumption"));
    clock_ = reinterpret_cast<decltype(clock_)>(find("nvmlDeviceGetClockInfo"));
    if (init() != 0 || by_index(0, &device_) != 0) std::exit(1);
  }
  [[nodiscard]] unsigned long long millijoules() const {
    unsigned long long e = 0;
    energy_(device_, &e);
    return e;
  }
  [[nodiscard]] unsigned megahertz() const {
    unsigned c = 0;
    clock_(device_, 1, &c);
    return c;
  }

 private:
  void* device_ = nullptr;
  int (*energy_)(void*, unsigned long long*) = nullptr;
  int (*clock_)(void*, int, unsigned*) = nullptr;
};

struct Bench {
  cudaStream_t stream = nullptr;
  int sms = 0;
  Meter meter;
  std::string json;
  std::string named;  // only ops whose names this is part of

  // Repeats `op` and tells what a launch took and drew.
  void draw(const std::string& what, const std::function<void(int)>& op);
};

void Bench::draw(const std::string& what, const std::function<void(int)>& op) {
  if (what.find(named) == std::string::npos) return;
  const double guess = microseconds(stream, 12, op, 3);
  const int launches = std::max(12, static_cast<int>(4000.0 / guess));
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  BENCH_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < launches; ++i) op(i);
  BENCH_CUDA(cudaStreamEndCapture(stream, &graph));
  BENCH_CUDA(cudaGraphInstantiate(&exec, graph, 0));
  cudaEvent_t done[2];
  for (auto& e : done) BENCH_CUDA(cudaEventCreate(&e));
  long count = 0;
  const auto replay = [&] {  // two in flight
    cudaEvent_t& e = done[count % 2];
    if (count >= 2) BENCH_CUDA(cudaEventSynchronize(e));
    BENCH_CUDA(cudaGraphLaunch(exec, stream));
    BENCH_CUDA(cudaEventRecord(e, stream));
    ++count;
  };
  struct Reading {
    double s;
    unsigned long long mj;
    long count;
  };
  const auto start = Clock::now();
  const auto next_reading = [&]() -> Reading {  // when the counter moves
    const auto before = meter.millijoules();
    unsigned long long now = before;
    while (now == before) {
      replay();
      now = meter.millijoules();
    }
    return {seconds_since(start), now, count};
  };
  while (seconds_since(start) < 0.3) replay();
  const Reading a = next_reading();
  double mhz = 0;
  int reads = 0;
  while (seconds_since(start) - a.s < 0.7) {
    replay();
    mhz += meter.megahertz();
    ++reads;
  }
  const Reading b = next_reading();
  BENCH_CUDA(cudaStreamSynchronize(stream));
  for (auto& e : done) cudaEventDestroy(e);
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  const double us = (b.s - a.s) * 1e6 / static_cast<double>((b.count - a.count) * launches);
  const double watts = static_cast<double>(b.mj - a.mj) / (b.s - a.s) / 1000.0;
  std::printf("%-44s %9.2f us %7.1f W %9.2f mJ %6.0f MHz\n", what.c_str(), us, watts,
              watts * us / 1000.0, mhz / reads);
  std::fflush(stdout);
  char entry[256];
  std::snprintf(
      entry, sizeof entry,
      "%s\n  {\"what\": \"%s\", \"us\": %.2f, \"watts\": %.1f, \"mj\": %.2f, \"mhz\": %.0f}",
      json.empty() ? "" : ",", what.c_str(), us, watts, watts * us / 1000.0, mhz / reads);
  json += entry;
}

// ---- memory, in the orders that weights are read in ----

constexpr int kTileRows = 224, kRowBytes = 8192, kMatrixRows = 28672;

// Tiles of 224 rows, kPiece bytes of each row at a time; kPiece 0: one byte behind the other.
template <int kPiece>
__global__ void __launch_bounds__(512) read_tiles(const char* matrix, uint32_t* out) {
  constexpr int kPieces = kTileRows * kRowBytes / 16, kAhead = 7;
  const char* tile = matrix + static_cast<size_t>(blockIdx.x) * kTileRows * kRowBytes;
  uint32_t x = 0;
  for (int i = static_cast<int>(threadIdx.x); i < kPieces; i += kAhead * 512) {
    uint4 v[kAhead];
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      const int piece = i + j * 512;
      size_t at = static_cast<size_t>(piece) * 16;
      if constexpr (kPiece > 0) {
        constexpr int kWide = kPiece / 16;
        const int step = piece / (kTileRows * kWide), rest = piece % (kTileRows * kWide);
        at = static_cast<size_t>(rest / kWide) * kRowBytes + step * kPiece + rest % kWide * 16;
      }
      v[j] = __ldcs(reinterpret_cast<const uint4*>(tile + at));
    }
#pragma unroll
    for (int j = 0; j < kAhead; ++j) x ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  if (x == 0x12345678) *out = x;
}

template <int kPiece>
void read_matrix(Bench& b, const ProductPool& pool, const char* what) {
  const Product& p = kProducts[2];
  b.draw(what, [&](int i) {
    read_tiles<kPiece><<<kMatrixRows / kTileRows, 512, 0, b.stream>>>(
        static_cast<const char*>(pool.weight(p, i)), pool.output.as<uint32_t>());
  });
}

// ---- products ----

void products(Bench& b, const ProductPool& pool) {
  for (const Product& p : kProducts) {
    const std::string name = std::string(p.name) + ", ";
    LargeGemm tuned;
    std::vector<const void*> weights;
    for (int i = 0; i < 6; ++i) weights.push_back(pool.weight(p, i));
    tuned.tune(kRows, p.n, p.k, pool.input.as(), weights, pool.output.as(), b.stream, p.is_head());
    b.draw(name + "cuBLASLt", [&](int i) {
      tuned.multiply(kRows, p.n, p.k, pool.input.as(), pool.weight(p, i), pool.output.as(),
                     b.stream, p.is_head());
    });
    WideGemm w{pool.operands(p, kRows)};
    for (const int parts : {0, 1, 2, 3, 4}) {
      for (const int cluster : {2, 4}) {
        w.cut = {256, parts, cluster};
        w.weight = pool.weight(p, 0);
        if (!wide_cut_fits(w, b.sms) || (parts == 1 && p.n <= 8192)) continue;
        if (p.is_head() && (parts != 0 || cluster != 2)) continue;
        b.draw(name + "wide 256 x " + std::to_string(parts) + " by " + std::to_string(cluster),
               [&](int i) {
                 w.weight = pool.weight(p, i);
                 check(wide_gemm(w, b.sms, b.stream), "wide_gemm");
               });
      }
    }
    if (!p.gated) continue;
    GatedGemm g{pool.operands(p, kRows)};
    g.tile = {256};
    b.draw(name + "gated 256", [&](int i) {
      g.weight = pool.weight(p, i);
      check(gated_gemm(g, b.sms, b.stream), "gated_gemm");
    });
  }
}

// ---- attention ----

void decode(Bench& b, int kv_len) {
  DecodeScene scene({kRows, kv_len}, kv_len);
  b.draw("decode attention 256 x " + std::to_string(kv_len),
         [&](int i) { scene.attend(i, b.sms, b.stream); });
}

void norms(Bench& b, const ProductPool& pool) {
  const auto rows = [&](const Memory& m, size_t at) {
    return Matrix{m.as<char>() + at, DType::bf16, kRows, 4096, 4096};
  };
  Norm n = {rows(pool.output, 0),
            rows(pool.output, size_t{8} << 20),
            {pool.input.as(), DType::bf16, 1, 4096, 4096},
            {},
            rows(pool.output, size_t{16} << 20)};
  b.draw("norm of 4096", [&](int) { check(norm(n, b.stream), "norm"); });
}

void large(Bench& b, const ProductPool& pool) {
  LargeGemm gemm;
  const int n = 8192;
  b.draw("bf16 GEMM 8192 (cuBLASLt)", [&](int) {
    gemm.multiply(n, n, n, pool.input.as(), pool.weights.as(), pool.output.as(), b.stream);
  });
}

}  // namespace
}  // namespace troupe::bench

int main(int argc, char** argv) {
  using namespace troupe::bench;
  cudaDeviceProp device = {};
  BENCH_CUDA(cudaGetDeviceProperties(&device, 0));
  Bench b;
  if (argc > 2) b.named = argv[2];
  b.sms = device.multiProcessorCount;
  BENCH_CUDA(cudaStreamCreateWithFlags(&b.stream, cudaStreamNonBlocking));
  const ProductPool pool(b.sms);
  norms(b, pool);
  decode(b, 256);
  decode(b, 355);
  read_matrix<0>(b, pool, "235 MB, one byte behind the other");
  read_matrix<128>(b, pool, "235 MB, 128 bytes of 224 rows in turn");
  read_matrix<256>(b, pool, "235 MB, 256 bytes of 224 rows in turn");
  read_matrix<1024>(b, pool, "235 MB, 1,024 bytes of 224 rows in turn");
  large(b, pool);
  products(b, pool);
  decode(b, 256);
  if (FILE* f = argc > 1 ? std::fopen(argv[1], "w") : nullptr) {
    std::fprintf(f, "[%s\n]\n", b.json.c_str());
    std::fclose(f);
  }
  return 0;
}
