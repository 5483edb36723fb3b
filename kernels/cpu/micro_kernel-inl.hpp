// The innermost loop of many-row products: six rows by two vectors of sums, `depth` steps.
//   sum[i] += packed[x][i] * panel[x][0..2 vectors)
// On AVX2 it is written out: twelve sums, two weights and an input are all but one of its registers,
// and the compilers that we know spill one as soon as the loop is unrolled. Unrolled it has a tenth
// fewer instructions, which counts where another hyperthread shares the core.
#include "kernels/cpu/linear_kernels.hpp"
#include "kernels/cpu/simd-inl.hpp"

#if defined(TROUPE_CPU_MICRO_KERNEL_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef TROUPE_CPU_MICRO_KERNEL_INL
#undef TROUPE_CPU_MICRO_KERNEL_INL
#else
#define TROUPE_CPU_MICRO_KERNEL_INL
#endif

HWY_BEFORE_NAMESPACE();
namespace troupe::cpu::HWY_NAMESPACE {

// `panel` is aligned to a vector.
HWY_INLINE void multiply_steps(const float* packed, const float* panel, int64_t depth,
                               F32V (&sum)[kTileRows][2]) {
  constexpr F32 d;
  constexpr int64_t kLanesHere = static_cast<int64_t>(hn::MaxLanes(d));
  int64_t x = 0;
#if HWY_TARGET == HWY_AVX2
#define TROUPE_ROW(at, left, right)                   \
  "vbroadcastss " #at "(%[a]), %[x]\n\t"              \
  "vfmadd231ps %[w0], %[x], %[" #left "]\n\t"         \
  "vfmadd231ps %[w1], %[x], %[" #right "]\n\t"
#define TROUPE_STEP(w0, w1, a0, a1, a2, a3, a4, a5)                              \
  "vmovaps " #w0 "(%[b]), %[w0]\n\tvmovaps " #w1 "(%[b]), %[w1]\n\t"             \
  TROUPE_ROW(a0, l0, r0) TROUPE_ROW(a1, l1, r1) TROUPE_ROW(a2, l2, r2)           \
  TROUPE_ROW(a3, l3, r3) TROUPE_ROW(a4, l4, r4) TROUPE_ROW(a5, l5, r5)
  constexpr int64_t kSteps = 8;
  __m256 w0, w1, input;
  for (; x + kSteps <= depth; x += kSteps) {
    // Steps are 24 bytes of inputs and 64 of weights apart.
    __asm__ volatile(
        TROUPE_STEP(0, 32, 0, 4, 8, 12, 16, 20)
        TROUPE_STEP(64, 96, 24, 28, 32, 36, 40, 44)
        TROUPE_STEP(128, 160, 48, 52, 56, 60, 64, 68)
        TROUPE_STEP(192, 224, 72, 76, 80, 84, 88, 92)
        TROUPE_STEP(256, 288, 96, 100, 104, 108, 112, 116)
        TROUPE_STEP(320, 352, 120, 124, 128, 132, 136, 140)
        TROUPE_STEP(384, 416, 144, 148, 152, 156, 160, 164)
        TROUPE_STEP(448, 480, 168, 172, 176, 180, 184, 188)
        : [l0] "+x"(sum[0][0].raw), [r0] "+x"(sum[0][1].raw), [l1] "+x"(sum[1][0].raw),
          [r1] "+x"(sum[1][1].raw), [l2] "+x"(sum[2][0].raw), [r2] "+x"(sum[2][1].raw),
          [l3] "+x"(sum[3][0].raw), [r3] "+x"(sum[3][1].raw), [l4] "+x"(sum[4][0].raw),
          [r4] "+x"(sum[4][1].raw), [l5] "+x"(sum[5][0].raw), [r5] "+x"(sum[5][1].raw),
          [w0] "=&x"(w0), [w1] "=&x"(w1), [x] "=&x"(input)
        : [a] "r"(packed), [b] "r"(panel)
        : "memory");
    packed += kSteps * kTileRows;
    panel += kSteps * 2 * kLanesHere;
  }
#undef TROUPE_STEP
#undef TROUPE_ROW
#endif
#pragma GCC unroll 1
  for (; x < depth; ++x, packed += kTileRows, panel += 2 * kLanesHere) {
    const F32V b0 = hn::Load(d, panel);
    const F32V b1 = hn::Load(d, panel + kLanesHere);
#pragma GCC unroll 6
    for (int i = 0; i < kTileRows; ++i) {
      const F32V a = hn::Set(d, packed[i]);
      sum[i][0] = hn::MulAdd(a, b0, sum[i][0]);
      sum[i][1] = hn::MulAdd(a, b1, sum[i][1]);
    }
  }
}

}  // namespace troupe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
