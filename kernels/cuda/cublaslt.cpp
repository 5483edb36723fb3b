#include "kernels/cuda/cublaslt.hpp"

#include <cublasLt.h>

#include <map>
#include <tuple>

#include "kernels/cuda/shared_library.hpp"

namespace troupe::cuda {
namespace {

cudaDataType_t data_type(DType t) {
  return t == DType::f32 ? CUDA_R_32F : t == DType::f16 ? CUDA_R_16F : CUDA_R_16BF;
}

}  // namespace

struct CublasLt::Library {
  cublasLtHandle_t handle = nullptr;
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
};

struct Plan {
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t weight = nullptr, input = nullptr, output = nullptr;
  cublasLtMatmulAlgo_t algorithm = {};
};

// Everything the choice of an algorithm looks at.
using PlanKey = std::tuple<int64_t, int64_t, int64_t, DType, DType, int64_t, int64_t, bool>;

struct CublasLt::Plans {
  std::map<PlanKey, Plan> by_key;
};

CublasLt::CublasLt() : library_(std::make_unique<Library>()), plans_(std::make_unique<Plans>()) {}

CublasLt::~CublasLt() {
  for (auto& [key, plan] : plans_->by_key) {
    library_->layout_destroy(plan.weight);
    library_->layout_destroy(plan.input);
    library_->layout_destroy(plan.output);
    library_->desc_destroy(plan.desc);
  }
  if (library_->handle != nullptr) library_->destroy(library_->handle);
}

Result<std::unique_ptr<CublasLt>> CublasLt::open() {
  TR_ASSIGN(const OpenLibrary library,
            open_nvidia_library("libcublasLt.so.13", "nvidia/cu13/lib", "nvidia-cublas"));
  std::unique_ptr<CublasLt> lt(new CublasLt);
  lt->path_ = library.path;
  Library& l = *lt->library_;
  Status missing;
  const auto take = [&](auto& function, const char* name) {
    auto found = find_function(library, name);
    if (found.ok()) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(*found);
    } else if (missing.ok()) {
      missing = found.status();
    }
  };
  take(l.create, "cublasLtCreate");
  take(l.destroy, "cublasLtDestroy");
  take(l.matmul, "cublasLtMatmul");
  take(l.desc_create, "cublasLtMatmulDescCreate");
  take(l.desc_destroy, "cublasLtMatmulDescDestroy");
  take(l.desc_set, "cublasLtMatmulDescSetAttribute");
  take(l.layout_create, "cublasLtMatrixLayoutCreate");
  take(l.layout_destroy, "cublasLtMatrixLayoutDestroy");
  take(l.preference_create, "cublasLtMatmulPreferenceCreate");
  take(l.preference_destroy, "cublasLtMatmulPreferenceDestroy");
  take(l.preference_set, "cublasLtMatmulPreferenceSetAttribute");
  take(l.heuristic, "cublasLtMatmulAlgoGetHeuristic");
  TR_TRY(missing);
  if (l.create(&l.handle) != CUBLAS_STATUS_SUCCESS) {
    return Status(Code::device_failed, library.path + ": cublasLtCreate failed");
  }
  return lt;
}

Status CublasLt::multiply(const Gemm& g, void* workspace, size_t workspace_bytes,
                          cudaStream_t stream) {
  const Library& l = *library_;
  const PlanKey key{
      g.m, g.n, g.k, g.dtype, g.output_dtype, g.input_stride, g.output_stride, g.bias != nullptr};
  auto found = plans_->by_key.find(key);
  if (found == plans_->by_key.end()) {
    Plan p;
    const auto type = data_type(g.dtype);
    const auto u = [](int64_t x) { return static_cast<uint64_t>(x); };
    // Column-major: output^T (n x m) = weight^T^T (k x n, transposed) * input^T (k x m).
    l.desc_create(&p.desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    const cublasOperation_t transposed = CUBLAS_OP_T;
    l.desc_set(p.desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed);
    if (g.bias != nullptr) {
      const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
      l.desc_set(p.desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
      l.desc_set(p.desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type);
      l.desc_set(p.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g.bias, sizeof g.bias);
    }
    l.layout_create(&p.weight, type, u(g.k), u(g.n), g.k);
    l.layout_create(&p.input, type, u(g.k), u(g.m), g.input_stride);
    l.layout_create(&p.output, data_type(g.output_dtype), u(g.n), u(g.m), g.output_stride);
    cublasLtMatmulPreference_t preference = nullptr;
    l.preference_create(&preference);
    l.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes,
                     sizeof workspace_bytes);
    cublasLtMatmulHeuristicResult_t best = {};
    int count = 0;
    const auto status = l.heuristic(l.handle, p.desc, p.weight, p.input, p.output, p.output,
                                    preference, 1, &best, &count);
    l.preference_destroy(preference);
    if (status != CUBLAS_STATUS_SUCCESS || count == 0) {
      return Status(Code::device_failed, "cuBLASLt has no algorithm for m " + std::to_string(g.m) +
                                             ", n " + std::to_string(g.n) + ", k " +
                                             std::to_string(g.k) + " in " + dtype_name(g.dtype));
    }
    p.algorithm = best.algo;
    found = plans_->by_key.emplace(key, p).first;
  }
  const Plan& p = found->second;
  if (g.bias != nullptr) {
    l.desc_set(p.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g.bias, sizeof g.bias);
  }
  const float one = 1.0F, zero = 0.0F;
  const auto status =
      l.matmul(l.handle, p.desc, &one, g.weight, p.weight, g.input, p.input, &zero, g.output,
               p.output, g.output, p.output, &p.algorithm, workspace, workspace_bytes, stream);
  if (status == CUBLAS_STATUS_SUCCESS) return ok_status();
  return Status(Code::device_failed,
                "cublasLtMatmul failed with status " + std::to_string(static_cast<int>(status)));
}

}  // namespace troupe::cuda
