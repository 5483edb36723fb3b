#include "kernels/cuda/cublaslt.hpp"

#include <cublasLt.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <vector>

#include "kernels/cuda/device_memory.hpp"
#include "kernels/cuda/shared_library.hpp"

namespace troupe::cuda {
namespace {

cudaDataType_t data_type(DType t) {
  return t == DType::f32 ? CUDA_R_32F : t == DType::f16 ? CUDA_R_16F : CUDA_R_16BF;
}

constexpr int kCandidatesMax = 24, kCandidatesLong = 8;
constexpr double kFlopLong = 1e11, kFlopShort = 2e10;
constexpr int64_t kElementsLong = int64_t{1} << 28;
constexpr int64_t kRowsLoaded = 256;
// Another algorithm has to be better by this much: timings of equal ones differ by less.
constexpr double kWorthwhile = 0.985;

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
  decltype(&cublasLtMatmulAlgoCheck) check = nullptr;
};

struct CublasLt::Plan {
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t weight = nullptr, input = nullptr, output = nullptr;
  cublasLtMatmulAlgo_t algorithm = {};
};

// Everything the choice of an algorithm looks at.
using PlanKey = std::tuple<int64_t, int64_t, int64_t, DType, DType, int64_t, int64_t, bool>;

// What tuning is shared over: all but the rows and the strides.
using ShapeKey = std::tuple<int64_t, int64_t, DType, DType, bool>;

struct CublasLt::Plans {
  std::map<PlanKey, Plan> by_key;
  std::map<ShapeKey, std::map<int64_t, cublasLtMatmulAlgo_t>> tuned;  // then by rows
};

namespace {
ShapeKey shape_of(const Gemm& g) {
  return {g.n, g.k, g.dtype, g.output_dtype, g.bias != nullptr};
}

double flop_of(const Gemm& g) {
  return 2.0 * static_cast<double>(g.m) * static_cast<double>(g.n) * static_cast<double>(g.k);
}
}  // namespace

Effort effort_for(const Gemm& g) {
  Effort effort;
  const bool is_long = flop_of(g) > kFlopLong || g.n * g.k > kElementsLong;
  effort.launches = is_long ? 1 : flop_of(g) > kFlopShort ? 2 : 6;
  if (is_long) effort.rules.rounds_close = effort.rules.rounds;
  return effort;
}

CublasLt::CublasLt() : library_(std::make_unique<Library>()), plans_(std::make_unique<Plans>()) {}

CublasLt::~CublasLt() {
  for (auto& [key, plan] : plans_->by_key) forget(plan);
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
  take(l.check, "cublasLtMatmulAlgoCheck");
  TR_TRY(missing);
  if (l.create(&l.handle) != CUBLAS_STATUS_SUCCESS) {
    return Status(Code::device_failed, library.path + ": cublasLtCreate failed");
  }
  return lt;
}

CublasLt::Plan CublasLt::describe(const Gemm& g) const {
  const Library& l = *library_;
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
  return p;
}

void CublasLt::forget(const Plan& plan) const {
  library_->layout_destroy(plan.weight);
  library_->layout_destroy(plan.input);
  library_->layout_destroy(plan.output);
  library_->desc_destroy(plan.desc);
}

// The tuned algorithm of the next row count that has one, if it can do this one; else the library's
// first guess.
Status CublasLt::choose(const Gemm& g, size_t workspace_bytes, Plan& p) const {
  const Library& l = *library_;
  if (const auto tuned = plans_->tuned.find(shape_of(g)); tuned != plans_->tuned.end()) {
    const auto near = tuned->second.lower_bound(g.m);
    cublasLtMatmulHeuristicResult_t fit = {};
    if (near != tuned->second.end() &&
        l.check(l.handle, p.desc, p.weight, p.input, p.output, p.output, &near->second, &fit) ==
            CUBLAS_STATUS_SUCCESS &&
        fit.workspaceSize <= workspace_bytes) {
      p.algorithm = near->second;
      return ok_status();
    }
  }
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
  return ok_status();
}

bool CublasLt::run(const Plan& p, const Gemm& g, void* workspace, size_t workspace_bytes,
                   cudaStream_t stream) const {
  const float one = 1.0F, zero = 0.0F;
  return library_->matmul(library_->handle, p.desc, &one, g.weight, p.weight, g.input, p.input,
                          &zero, g.output, p.output, g.output, p.output, &p.algorithm, workspace,
                          workspace_bytes, stream) == CUBLAS_STATUS_SUCCESS;
}

Status CublasLt::multiply(const Gemm& g, void* workspace, size_t workspace_bytes,
                          cudaStream_t stream) {
  const PlanKey key{
      g.m, g.n, g.k, g.dtype, g.output_dtype, g.input_stride, g.output_stride, g.bias != nullptr};
  auto found = plans_->by_key.find(key);
  if (found == plans_->by_key.end()) {
    Plan p = describe(g);
    if (Status s = choose(g, workspace_bytes, p); !s.ok()) {
      forget(p);
      return s;
    }
    found = plans_->by_key.emplace(key, p).first;
  }
  const Plan& p = found->second;
  if (g.bias != nullptr) {
    library_->desc_set(p.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g.bias, sizeof g.bias);
  }
  if (run(p, g, workspace, workspace_bytes, stream)) return ok_status();
  return Status(Code::device_failed, "cublasLtMatmul failed for m " + std::to_string(g.m) + ", n " +
                                         std::to_string(g.n) + ", k " + std::to_string(g.k));
}

Status CublasLt::load_guess(const Gemm& g, void* workspace, size_t workspace_bytes,
                            cudaStream_t stream) {
  Plan whole = describe(g);
  const Status chosen = choose(g, workspace_bytes, whole);
  if (chosen.ok()) {
    Gemm few = g;
    few.m = std::min(g.m, kRowsLoaded);
    Plan part = describe(few);
    part.algorithm = whole.algorithm;
    run(part, few, workspace, workspace_bytes, stream);  // refused: it is loaded when it is wanted
    forget(part);
    cudaGetLastError();
  }
  forget(whole);
  return chosen;
}

Result<double> CublasLt::tune(const Gemm& of, void* workspace, size_t workspace_bytes,
                              LaunchClock& clock, cudaStream_t stream) {
  const Library& l = *library_;
  Gemm g = of;
  Plan p = describe(g);
  cublasLtMatmulPreference_t preference = nullptr;
  l.preference_create(&preference);
  l.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes,
                   sizeof workspace_bytes);
  std::vector<cublasLtMatmulHeuristicResult_t> candidates(kCandidatesMax);
  int count = 0;
  l.heuristic(l.handle, p.desc, p.weight, p.input, p.output, p.output, preference,
              flop_of(g) > kFlopLong ? kCandidatesLong : kCandidatesMax, candidates.data(), &count);
  l.preference_destroy(preference);
  const Effort effort = effort_for(g);
  const std::vector<double> times =
      race(static_cast<size_t>(count), effort.rules, [&](size_t candidate) {
        const auto& c = candidates[candidate];
        if (c.state != CUBLAS_STATUS_SUCCESS || c.workspaceSize > workspace_bytes) return kNever;
        p.algorithm = c.algo;
        return clock.milliseconds(effort.launches, [&](const void* weight) {
          g.weight = weight;
          return run(p, g, workspace, workspace_bytes, stream);
        });
      });
  double best = kNever;
  for (size_t i = 0; i < times.size(); ++i) {
    if (times[i] >= best * kWorthwhile) continue;
    best = times[i];
    plans_->tuned[shape_of(g)][g.m] = candidates[i].algo;
  }
  forget(p);
  TR_TRY(status_of(cudaStreamSynchronize(stream), "timing products"));
  return best;
}

}  // namespace troupe::cuda
