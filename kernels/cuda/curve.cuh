// Activations of one number.
#pragma once

#include "kernels/cuda/elementwise.hpp"

namespace troupe::cuda {

__device__ __forceinline__ float bent(Curve curve, float x) {
  switch (curve) {
    case Curve::silu:
      return x / (1.0F + expf(-x));
    case Curve::gelu:
      return 0.5F * x * (1.0F + erff(x * 0.70710678F));
    case Curve::gelu_tanh:
      return 0.5F * x * (1.0F + tanhf(0.79788456F * (x + 0.044715F * x * x * x)));
    case Curve::gelu_quick:
      return x / (1.0F + expf(-1.702F * x));
    case Curve::relu:
      return fmaxf(x, 0.0F);
    case Curve::relu2:
      return x > 0.0F ? x * x : 0.0F;
  }
  return x;
}

}  // namespace troupe::cuda
