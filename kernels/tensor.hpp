// Views of device memory, and the weights that ops take. A view owns nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace troupe {

enum class DType : uint8_t { f32, f16, bf16, i32, i8, u8, fp8_e4m3 };

constexpr size_t dtype_bytes(DType t) {
  switch (t) {
    case DType::f32:
    case DType::i32: return 4;
    case DType::f16:
    case DType::bf16: return 2;
    case DType::i8:
    case DType::u8:
    case DType::fp8_e4m3: return 1;
  }
  return 0;
}
const char* dtype_name(DType t);

// rows x cols elements, row-major, rows `stride` elements apart. A vector has rows == 1.
struct Matrix {
  void* data = nullptr;
  DType dtype = DType::f32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;

  explicit operator bool() const { return data != nullptr; }
  [[nodiscard]] size_t bytes() const {
    return static_cast<size_t>(rows) * static_cast<size_t>(stride) * dtype_bytes(dtype);
  }
  template <class T>
  [[nodiscard]] T* row(int64_t r) const {
    return static_cast<T*>(data) + r * stride;
  }
  // Columns [begin, begin + count) of every row.
  [[nodiscard]] Matrix columns(int64_t begin, int64_t count) const {
    auto* bytes = static_cast<std::byte*>(data) + static_cast<size_t>(begin) * dtype_bytes(dtype);
    return {bytes, dtype, rows, count, stride};
  }
  [[nodiscard]] Matrix first_rows(int64_t count) const {
    return {data, dtype, count, cols, stride};
  }
};

// How the values of a linear weight are stored. The quantised ones come with a later issue; ops
// that do not know a format refuse it by name when the weight is placed, not when it is used.
enum class WeightFormat : uint8_t { plain, awq_u4, gptq_u4, i8_channel, fp8_block };

// One [out, in] block of a linear layer, as it stands on the device.
struct LinearPart {
  WeightFormat format = WeightFormat::plain;
  Matrix values;   // plain: out x in; quantised: as the format packs it
  Matrix scales;   // empty for plain
  Matrix zeros;    // empty unless the format has them
  Matrix bias;     // empty or 1 x out
  int32_t group_size = 0;
  void* packed = nullptr;  // the backend's own form, when placing the weight made one
};

// A linear layer: the parts stand one above the other along the output axis (q, k, v; gate, up).
// On a CPU they stay where the file has them; a GPU backend may merge them when placing.
struct LinearWeight {
  std::vector<LinearPart> parts;
  int64_t in = 0;
  int64_t out = 0;

  explicit operator bool() const { return !parts.empty(); }
};

}  // namespace troupe
