// What this machine can do at best, measured in the same run as what is held against it.
#pragma once

#include <time.h>

#include "kernels/cpu/thread_pool.hpp"

namespace troupe::bench {

struct Ceilings {
  double read_gbs = 0.0;    // reading memory, all threads
  double fma_gflops = 0.0;  // f32 multiply-adds in registers, all threads
};
// Now, by a clock; CLOCK_PROCESS_CPUTIME_ID where others use the machine too.
double seconds_of(clockid_t clock);
Ceilings measure_ceilings(cpu::ThreadPool& pool, clockid_t clock);

}  // namespace troupe::bench
