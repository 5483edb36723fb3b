// Philox4x32-10, the counter-based generator behind every draw: what it gives depends on its key and
// counter alone, so a token's draw does not depend on what else is in the batch. The same code runs
// on devices (docs/sampling.md): keep it free of anything that a CUDA compiler would not take.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define TR_DEVICE __host__ __device__
#else
#define TR_DEVICE
#endif

namespace troupe {

struct Philox4 {
  uint32_t x[4];
};

TR_DEVICE inline Philox4 philox4x32(uint64_t key, uint32_t c0, uint32_t c1, uint32_t c2,
                                    uint32_t c3) {
  uint32_t k0 = static_cast<uint32_t>(key);
  uint32_t k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53U} * c0;
    const uint64_t p1 = uint64_t{0xCD9E8D57U} * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
  return {{c0, c1, c2, c3}};
}

// Uniform in [0, 1), 24 bits.
TR_DEVICE inline float uniform_from(uint32_t bits) {
  return static_cast<float>(bits >> 8) * (1.0F / 16777216.0F);
}

// The draw of one token: keyed by seed, counted by (position, choice).
TR_DEVICE inline float token_uniform(uint64_t seed, int32_t choice, int32_t position) {
  return uniform_from(philox4x32(seed, static_cast<uint32_t>(position),
                                 static_cast<uint32_t>(choice), 0U, 0U)
                          .x[0]);
}

}  // namespace troupe
