// A backend of one's own: "slate", a device with memory of its own that holds all weights in f32,
// the parts of a linear layer in one piece.
//
// It began as the plain backend, whose ops are slow and right, and has taken over memory, placing
// weights, products, norms and one activation. Every op it takes over is held against the plain one
// by troupe-check-backend; those it has not are still the plain ones, which read the same memory.
#include <cmath>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/backend.hpp"
#include "kernels/cpu/half.hpp"
#include "kernels/cpu/plain/plain_backend.hpp"
#include "memory.hpp"

namespace slate {
namespace {

using troupe::Batch;
using troupe::DeviceBuffer;
using troupe::DeviceInfo;
using troupe::DType;
using troupe::LinearPart;
using troupe::LinearWeight;
using troupe::Matrix;
using troupe::Result;
using Arena = std::vector<std::unique_ptr<DeviceBuffer>>;

constexpr uint64_t kMemory = 8ULL << 30;

class Slate final : public troupe::cpu::PlainBackend {
 public:
  Slate()
      : PlainBackend("slate:0", "an example of a backend"),
        memory_(std::make_shared<Memory>(kMemory)) {}

  [[nodiscard]] const DeviceInfo& info() const override {
    info_ = PlainBackend::info();
    info_.memory_total = memory_->total();
    info_.memory_free = memory_->free();
    info_.unified_memory = false;  // weights are copied, so files need not stay mapped
    return info_;
  }
  Result<std::unique_ptr<DeviceBuffer>> allocate(size_t bytes, std::string_view what) override {
    return memory_->allocate(bytes, what);
  }
  Result<Matrix> place(const Matrix& host, Arena& arena) override;
  Result<LinearWeight> place(const LinearWeight& host, Arena& arena) override;

  void linear(const Batch& batch, const troupe::LinearArgs& args) override;
  void norm(const troupe::NormArgs& args) override;
  void gated_activation(const troupe::ActivationArgs& args) override;

 private:
  Result<Matrix> new_matrix(int64_t rows, int64_t cols, std::string_view what, Arena& arena);

  std::shared_ptr<Memory> memory_;
  mutable DeviceInfo info_;
};

void copy_rows(const Matrix& from, const Matrix& to, int64_t first_row) {
  for (int64_t r = 0; r < from.rows; ++r) {
    for (int64_t c = 0; c < from.cols; ++c)
      to.row<float>(first_row + r)[c] = troupe::cpu::at(from, r, c);
  }
}

Result<Matrix> Slate::new_matrix(int64_t rows, int64_t cols, std::string_view what, Arena& arena) {
  TR_ASSIGN(auto buffer, memory_->allocate(static_cast<size_t>(rows * cols) * sizeof(float), what));
  const Matrix made{buffer->data(), DType::f32, rows, cols, cols};
  arena.push_back(std::move(buffer));
  return made;
}

Result<Matrix> Slate::place(const Matrix& host, Arena& arena) {
  Arena there;  // the plain backend's own copy, if it makes one; it says what it cannot read
  TR_ASSIGN(const Matrix read, PlainBackend::place(host, there));
  if (!read) return read;
  TR_ASSIGN(const Matrix made, new_matrix(read.rows, read.cols, "weight", arena));
  copy_rows(read, made, 0);
  return made;
}

Result<LinearWeight> Slate::place(const LinearWeight& host, Arena& arena) {
  Arena there;
  TR_ASSIGN(const LinearWeight read, PlainBackend::place(host, there));
  int64_t rows = 0;
  bool biased = false;
  for (const LinearPart& part : read.parts) {
    rows += part.values.rows;
    biased = biased || static_cast<bool>(part.bias);
  }
  LinearPart whole;
  TR_ASSIGN(whole.values, new_matrix(rows, read.in, "linear weight", arena));
  if (biased) {
    TR_ASSIGN(whole.bias, new_matrix(1, rows, "bias", arena));
  }
  int64_t row = 0;
  for (const LinearPart& part : read.parts) {
    copy_rows(part.values, whole.values, row);
    if (part.bias) copy_rows(part.bias, whole.bias.columns(row, part.values.rows), 0);
    row += part.values.rows;
  }
  LinearWeight placed;
  placed.parts = {whole};
  placed.in = read.in;
  placed.out = read.out;
  return placed;
}

// Eight partial sums, which a compiler turns into one vector.
float dot(const float* x, const float* y, int64_t n) {
  float sums[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int k = 0; k < 8; ++k) sums[k] += x[i + k] * y[i + k];
  }
  float sum = 0.0F;
  for (; i < n; ++i) sum += x[i] * y[i];
  for (const float s : sums) sum += s;
  return sum;
}

bool takes(const Batch& batch, troupe::RowSelect select, int64_t row) {
  if (select == troupe::RowSelect::all) return true;
  const auto modality = batch.plan.modality();
  const bool vision = !modality.empty() && modality[static_cast<size_t>(row)] != 0;
  return vision == (select == troupe::RowSelect::vision);
}

void Slate::linear(const Batch& batch, const troupe::LinearArgs& a) {
  const LinearPart& w = a.weight->parts.front();
  if (a.input.dtype != DType::f32 || w.values.dtype != DType::f32)
    return PlainBackend::linear(batch, a);
  for (int64_t n = 0; n < w.values.rows; ++n) {  // a weight's row is read once for all rows
    const float* weight = w.values.row<float>(n);
    const float bias = w.bias ? w.bias.row<float>(0)[n] : 0.0F;
    for (int64_t r = 0; r < a.input.rows; ++r) {
      if (!takes(batch, a.select, r)) continue;
      troupe::cpu::put(a.output, r, n, bias + dot(a.input.row<float>(r), weight, a.input.cols));
    }
  }
}

void Slate::norm(const troupe::NormArgs& a) {
  const bool one_type = a.input.dtype == DType::f32 && a.output.dtype == DType::f32 &&
                        (!a.residual || a.residual.dtype == DType::f32) &&
                        (!a.weight || a.weight.dtype == DType::f32);
  if (a.kind != troupe::NormKind::rms || a.group > 0 || a.bias || !one_type)
    return PlainBackend::norm(a);
  for (int64_t r = 0; r < a.input.rows; ++r) {
    const float* in = a.input.row<float>(r);
    float* kept = a.residual ? a.residual.row<float>(r) : nullptr;
    float* out = a.output.row<float>(r);
    double squares = 0.0;
    for (int64_t c = 0; c < a.input.cols; ++c) {
      const float x = kept != nullptr ? kept[c] += in[c] : in[c];
      squares += double{x} * double{x};
    }
    const auto scale = static_cast<float>(
        1.0 / std::sqrt(squares / static_cast<double>(a.input.cols) + double{a.eps}));
    for (int64_t c = 0; c < a.input.cols; ++c) {
      const float weight = a.weight ? a.weight.row<float>(0)[c] + a.weight_offset : 1.0F;
      out[c] = (kept != nullptr ? kept[c] : in[c]) * scale * weight;
    }
  }
}

void Slate::gated_activation(const troupe::ActivationArgs& a) {
  const bool mine = a.kind == troupe::Activation::silu && a.input.dtype == DType::f32 &&
                    a.output.dtype == DType::f32;
  if (!mine) return PlainBackend::gated_activation(a);
  for (int64_t r = 0; r < a.output.rows; ++r) {
    const float* gate = a.input.row<float>(r);
    const float* up = gate + a.output.cols;
    float* out = a.output.row<float>(r);
    for (int64_t c = 0; c < a.output.cols; ++c)
      out[c] = gate[c] / (1.0F + std::exp(-gate[c])) * up[c];
  }
}

// A real device would ask its driver, and say why there is none.
Result<int32_t> device_count() {
  return int32_t{1};
}
void (*write_log)(troupe::LogLevel, std::string_view) = nullptr;
void set_log(void (*write)(troupe::LogLevel, std::string_view)) {
  write_log = write;
}

Result<std::unique_ptr<troupe::Backend>> open(int32_t device) {
  if (write_log != nullptr)
    write_log(troupe::LogLevel{1}, "slate: opening device " + std::to_string(device));
  return std::unique_ptr<troupe::Backend>(std::make_unique<Slate>());
}

}  // namespace
}  // namespace slate

extern "C" __attribute__((visibility("default"))) const troupe::BackendPlugin*
troupe_backend_plugin() {
  static const troupe::BackendPlugin plugin = {troupe::kBackendInterface, nullptr, "slate",
                                               &slate::device_count, &slate::open,
                                               &slate::set_log};
  return &plugin;
}
