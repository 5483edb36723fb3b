// Warpgroup products of 192, 224 and 256 columns (wgmma.cuh says what they take): 96 to 128 sums a
// thread, in macros, since the instruction names each of them.
#pragma once

#include "kernels/cuda/ptx/wgmma.cuh"

namespace troupe::cuda::ptx {

// clang-format off
#define TR_SUMS8(d, i)                                                                   \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
  "+f"(d[i + 6]), "+f"(d[i + 7])
#define TR_SUMS32(d, i) TR_SUMS8(d, i), TR_SUMS8(d, i + 8), TR_SUMS8(d, i + 16), TR_SUMS8(d, i + 24)

#define TR_NAMES96 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, " \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"

#define TR_NAMES16_MORE \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, " \
  "%110, %111"
#define TR_NAMES32_MORE \
  TR_NAMES16_MORE ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, " \
  "%122, %123, %124, %125, %126, %127"

// clang-format on

#define TR_WGMMA_SS(T, ptx_type, n, names, a_name, b_name, p_name, ...)                    \
  template <>                                                                              \
  __device__ __forceinline__ void wgmma_ss<T, n>(float(&d)[n / 2], uint64_t a, uint64_t b, \
                                                 bool accumulate) {                        \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " p_name                                \
                 ", 0;\n"                                                                  \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." ptx_type "." ptx_type   \
                 " {" names "}, " a_name ", " b_name ", p, 1, 1, 0, 0;\n}\n"               \
                 : __VA_ARGS__                                                             \
                 : "l"(a), "l"(b), "r"(static_cast<int32_t>(accumulate)));                 \
  }

TR_WGMMA_SS(__nv_bfloat16, "bf16", 192, TR_NAMES96, "%96", "%97", "%98", TR_SUMS32(d, 0),
            TR_SUMS32(d, 32), TR_SUMS32(d, 64))
TR_WGMMA_SS(__half, "f16", 192, TR_NAMES96, "%96", "%97", "%98", TR_SUMS32(d, 0), TR_SUMS32(d, 32),
            TR_SUMS32(d, 64))
TR_WGMMA_SS(__nv_bfloat16, "bf16", 224, TR_NAMES96 ", " TR_NAMES16_MORE, "%112", "%113", "%114",
            TR_SUMS32(d, 0), TR_SUMS32(d, 32), TR_SUMS32(d, 64), TR_SUMS8(d, 96), TR_SUMS8(d, 104))
TR_WGMMA_SS(__half, "f16", 224, TR_NAMES96 ", " TR_NAMES16_MORE, "%112", "%113", "%114",
            TR_SUMS32(d, 0), TR_SUMS32(d, 32), TR_SUMS32(d, 64), TR_SUMS8(d, 96), TR_SUMS8(d, 104))
TR_WGMMA_SS(__nv_bfloat16, "bf16", 256, TR_NAMES96 ", " TR_NAMES32_MORE, "%128", "%129", "%130",
            TR_SUMS32(d, 0), TR_SUMS32(d, 32), TR_SUMS32(d, 64), TR_SUMS32(d, 96))
TR_WGMMA_SS(__half, "f16", 256, TR_NAMES96 ", " TR_NAMES32_MORE, "%128", "%129", "%130",
            TR_SUMS32(d, 0), TR_SUMS32(d, 32), TR_SUMS32(d, 64), TR_SUMS32(d, 96))

#undef TR_WGMMA_SS
#undef TR_NAMES32_MORE
#undef TR_NAMES16_MORE
#undef TR_NAMES96
#undef TR_SUMS32
#undef TR_SUMS8

}  // namespace troupe::cuda::ptx
