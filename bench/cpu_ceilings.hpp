// What this machine can do at best, measured in the same run as what is held against it.
#pragma once

#include "kernels/cpu/thread_pool.hpp"

namespace troupe::bench {

struct Ceilings {
  double read_gbs = 0.0;    // reading memory, all threads
  double fma_gflops = 0.0;  // f32 multiply-adds in registers, all threads
};
Ceilings measure_ceilings(cpu::ThreadPool& pool);

}  // namespace troupe::bench
