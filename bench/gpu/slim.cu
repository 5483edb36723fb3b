// Products of few rows from slim weights beside those from plain ones, each by its best cut.
// bench_gpu_slim [JSON FILE] [ROWS ...]
#include <functional>
#include <map>

#include "bench/gpu/ceilings.cuh"
#include "bench/gpu/measure.cuh"
#include "bench/gpu/products.hpp"
#include "kernels/cuda/slim_gemm.hpp"
#include "kernels/cuda/slim_weight.hpp"

namespace troupe::bench {
namespace {

using namespace troupe::cuda;

constexpr int kLaunches = 12, kReplays = 3;

// Some of the pool's weights, packed, in the same order.
class SlimPool {
 public:
  SlimPool(const ProductPool& pool, const Product& p)
      : shape_{p.n, p.k, p.gated},
        slots_(static_cast<int>(std::min<size_t>(pool.slots(p), 8))),
        memory_(static_cast<size_t>(slots_) * stride()) {
    const Memory listed = Memory::zeros(4);
    for (int i = 0; i < slots_; ++i) {
      check(slim_pack(shape_, pool.weight(p, i), at(i), listed.as<uint32_t>(), nullptr),
            "slim_pack");
    }
    uint32_t count = 0;
    BENCH_CUDA(cudaMemcpy(&count, listed.as(), 4, cudaMemcpyDeviceToHost));
    std::printf("%s: %.4f of the bytes, %.1f values listed of %lld\n", p.name,
                static_cast<double>(shape_.bytes()) / static_cast<double>(p.bytes()),
                static_cast<double>(count) / slots_, static_cast<long long>(shape_.list_room()));
  }
  [[nodiscard]] char* at(int i) const {
    return memory_.as<char>() + static_cast<size_t>(i % slots_) * stride();
  }

 private:
  [[nodiscard]] size_t stride() const { return (shape_.bytes() + 255) / 256 * 256; }

  SlimShape shape_;
  int slots_;
  Memory memory_;
};

// Ways by their microseconds.
using Times = std::map<double, std::string>;

struct Bench : DeviceBench {
  [[nodiscard]] double time(const std::function<cudaError_t(int)>& multiply) const {
    return microseconds(
        stream, kLaunches, [&](int i) { check(multiply(i), "a product"); }, kReplays);
  }
  void add_best(const Product& p, int m, const Times& times, size_t most) {
    for (const auto& [us, how] : times) {
      if (most-- == 0) break;
      report.add({std::string(p.name) + " m " + std::to_string(m) + " " + how, us,
                  static_cast<double>(p.bytes()), true, ceilings.read});
    }
  }
};

Times plain_ways(const Bench& b, const ProductPool& pool, const Product& p, int m) {
  Times times;
  SkinnyGemm skinny{pool.operands(p, m)};
  for (const int strips : {3, 4, 6, 7, 8, 14, 16}) {
    for (const int parts : {1, 2, 4}) {
      if ((m <= 8 && strips > 4) || (m <= 16 && strips > 8)) continue;
      skinny.strips = strips;
      skinny.parts = parts;
      times[b.time([&](int i) {
        skinny.weight = pool.weight(p, i);
        return skinny_gemm(skinny, b.sms, b.stream);
      })] = "skinny " + std::to_string(strips) + " x " + std::to_string(parts);
    }
  }
  for (const int cluster : {2, 4}) {
    for (const int parts : {0, 1, 2, 4}) {
      WideGemm wide{pool.operands(p, m), {(m + 63) / 64 * 64, parts, cluster}};
      if (m <= 32 || !wide_gemm_fits(wide) || !wide_cut_fits(wide, b.sms)) continue;
      times[b.time([&](int i) {
        wide.weight = pool.weight(p, i);
        return wide_gemm(wide, b.sms, b.stream);
      })] = "wide x " + std::to_string(parts);
    }
  }
  return times;
}

Times slim_ways(const Bench& b, const ProductPool& pool, const SlimPool& slims, const Product& p,
                int m) {
  Times times;
  SlimGemm slim{pool.operands(p, m)};
  slim.slim_paired = p.gated;
  for (const int strips : {3, 4, 6, 7, 8, 12, 14, 16}) {
    for (const int parts : {1, 2, 4}) {
      slim.cut = {strips, parts};
      if (!slim_cut_fits(m, slim.cut)) continue;
      times[b.time([&](int i) {
        slim.slim = slims.at(i);
        return slim_gemm(slim, b.sms, b.stream);
      })] = "slim " + std::to_string(strips) + " x " + std::to_string(parts);
    }
  }
  return times;
}

}  // namespace
}  // namespace troupe::bench

int main(int argc, char** argv) {
  using namespace troupe::bench;
  Bench b;
  b.open();
  const ProductPool pool(b.sms);
  for (const Product& p : kProducts) {
    const SlimPool slims(pool, p);
    for (const int m : rows_of(argc, argv, {1, 8, 16, 32, 64})) {
      b.add_best(p, m, plain_ways(b, pool, p, m), 1);
      b.add_best(p, m, slim_ways(b, pool, slims, p, m), 2);
    }
  }
  b.report.write(argc > 1 ? argv[1] : nullptr);
  return 0;
}
