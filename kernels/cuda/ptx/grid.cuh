// Programmatic dependent launch (sm_90): a kernel may start while the one before it still runs.
//
// Every kernel launched this way waits before it reads what others wrote or writes what others
// read; so when it completes, everything before it in the stream has completed too.
#pragma once

namespace troupe::cuda::ptx {

// Returns when all earlier kernels in the stream have completed and their writes are visible.
__device__ __forceinline__ void wait_for_earlier_kernels() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the next kernel in the stream start as soon as every block of this one got here.
__device__ __forceinline__ void let_next_kernel_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace troupe::cuda::ptx
