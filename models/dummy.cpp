#include "models/dummy.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <thread>
#include <vector>

#include "models/convert.hpp"

namespace troupe::models {
namespace {

constexpr float kDeviation = 0.02F;
constexpr size_t kQuantiles = 4096;
constexpr size_t kThreadElements = size_t{1} << 18;  // a thread is worth it from here on
constexpr size_t kThreadsMax = 16;

uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27U)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31U);
}

uint64_t name_hash(std::string_view name) {  // FNV-1a
  uint64_t h = 0xCBF29CE484222325ULL;
  for (const char c : name) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001B3ULL;
  return h;
}

// The value below which a share p of a normal distribution lies, by bisection of its erf.
double normal_quantile(double p) {
  double low = -6.0, high = 6.0;
  for (int i = 0; i < 48; ++i) {
    const double middle = (low + high) / 2.0;
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
  }
  return low;
}

std::vector<float> quantiles() {
  std::vector<float> out(kQuantiles);
  for (size_t i = 0; i < kQuantiles; ++i) {
    out[i] = kDeviation *
             static_cast<float>(normal_quantile((static_cast<double>(i) + 0.5) / kQuantiles));
  }
  return out;
}

// Elements [begin, end) with begin a multiple of four: one hash draws four.
template <class T>
void fill_random(T* out, size_t begin, size_t end, uint64_t key, const std::vector<T>& table) {
  for (size_t i = begin; i < end; i += 4) {
    uint64_t bits = mix(key + i / 4);
    const size_t stop = std::min(end, i + 4);
    for (size_t j = i; j < stop; ++j, bits >>= 16U) out[j] = table[bits & (kQuantiles - 1)];
  }
}

template <class T>
void fill_parallel(T* out, size_t count, uint64_t key, const std::vector<T>& table) {
  const size_t hardware = std::max(1U, std::thread::hardware_concurrency());
  const size_t threads =
      std::clamp<size_t>(count / kThreadElements, 1, std::min(hardware, kThreadsMax));
  const size_t share = (count / threads + 4) / 4 * 4;
  std::vector<std::thread> helpers;
  for (size_t t = 1; t < threads; ++t) {
    helpers.emplace_back([=, &table] {
      fill_random(out, std::min(count, t * share), std::min(count, (t + 1) * share), key, table);
    });
  }
  fill_random(out, 0, std::min(count, share), key, table);
  for (std::thread& helper : helpers) helper.join();
}

template <class T>
void fill(void* data, size_t count, DType dtype, Fill kind, uint64_t key) {
  auto* out = static_cast<T*>(data);
  if (kind != Fill::random) {
    const float value = kind == Fill::ones ? 1.0F : 0.0F;
    T element;
    convert(&value, DType::f32, &element, dtype, 1);
    std::fill_n(out, count, element);
    return;
  }
  static const std::vector<float> normal = quantiles();
  std::vector<T> table(kQuantiles);
  convert(normal.data(), DType::f32, table.data(), dtype, kQuantiles);
  fill_parallel(out, count, key, table);
}

}  // namespace

std::shared_ptr<const std::byte> make_dummy(std::string_view name, size_t elements, DType dtype,
                                            Fill kind, uint64_t seed) {
  constexpr std::align_val_t kAlign{64};
  auto* data = static_cast<std::byte*>(
      ::operator new(std::max<size_t>(elements, 1) * dtype_bytes(dtype), kAlign, std::nothrow));
  if (data == nullptr) return nullptr;
  const uint64_t key = mix(seed ^ name_hash(name));
  if (dtype == DType::f32) {
    fill<float>(data, elements, dtype, kind, key);
  } else {
    fill<uint16_t>(data, elements, dtype, kind, key);
  }
  return {data, [](const std::byte* p) {
            ::operator delete (const_cast<std::byte*>(p), std::align_val_t{64});
          }};
}

}  // namespace troupe::models
