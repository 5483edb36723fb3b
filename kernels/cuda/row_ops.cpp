// The ops that vision towers add: rows moved, pooled and resampled; columns scaled.
#include <cstring>
#include <vector>

#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/cuda/elementwise.hpp"

namespace troupe::cuda {

void CudaBackend::scale_columns(const ScaleColumnsArgs& a) {
  flush();
  check(cuda::scale_columns(a.input, a.weight, a.output, stream_), "scale_columns");
}

// Sources, rows and weights go up in one copy: sources first, which want the widest alignment.
void CudaBackend::mix_rows(const MixRowsArgs& a) {
  flush();
  if (a.output.rows == 0) return;
  std::vector<MixSource> sources;
  int64_t first = 0;
  for (const Matrix& m : a.inputs) {
    if (m.dtype != a.output.dtype) {
      return fail(unsupported(std::string("mix_rows of ") + dtype_name(m.dtype) + " rows into " +
                              dtype_name(a.output.dtype) + " on CUDA"));
    }
    sources.push_back({m.data, m.stride, first});
    first += m.rows;
  }
  const size_t source_bytes = sources.size() * sizeof(MixSource);
  const size_t row_bytes = a.rows.size_bytes();
  std::vector<std::byte> host(source_bytes + row_bytes + a.weights.size_bytes());
  std::memcpy(host.data(), sources.data(), source_bytes);
  std::memcpy(host.data() + source_bytes, a.rows.data(), row_bytes);
  if (!a.weights.empty()) {
    std::memcpy(host.data() + source_bytes + row_bytes, a.weights.data(), a.weights.size_bytes());
  }
  if (Status s = grow(mixed_, host.size(), "rows to mix"); !s.ok()) return fail(std::move(s));
  auto* device = mixed_.as<std::byte>();
  check(cudaMemcpyAsync(device, host.data(), host.size(), cudaMemcpyHostToDevice, stream_),
        "mix_rows");
  MixRows p;
  p.sources = reinterpret_cast<const MixSource*>(device);
  p.source_count = static_cast<int32_t>(sources.size());
  p.rows = reinterpret_cast<const int32_t*>(device + source_bytes);
  if (!a.weights.empty()) {
    p.weights = reinterpret_cast<const float*>(device + source_bytes + row_bytes);
  }
  p.taps = a.taps;
  p.accumulate = a.accumulate;
  p.output = a.output;
  check(cuda::mix_rows(p, stream_), "mix_rows");
}

}  // namespace troupe::cuda
