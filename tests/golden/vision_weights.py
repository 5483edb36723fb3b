"""Weights that are a function of (seed, name, element), the same here and in the tests.

A golden folder of a vision-language model holds weights.json instead of weights: the shape, mean
and deviation of each tensor. vision/golden_weights.cpp grows the same values from it.
"""

import numpy
import torch

MASK = (1 << 64) - 1


def mix_int(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def mix(x: numpy.ndarray) -> numpy.ndarray:
    x = x + numpy.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return x ^ (x >> numpy.uint64(31))


def key_of(seed: int, name: str) -> int:
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return mix_int(seed ^ h)


def draw(seed: int, name: str, shape: tuple, mean: float, deviation: float) -> torch.Tensor:
    """Uniform with that mean and deviation: the upper 24 bits of a hash, scaled in f32."""
    count = int(numpy.prod(shape)) if shape else 1
    with numpy.errstate(over="ignore"):
        bits = mix(numpy.uint64(key_of(seed, name)) + numpy.arange(count, dtype=numpy.uint64))
    unit = (bits >> numpy.uint64(40)).astype(numpy.float32) * numpy.float32(2.0 ** -23)
    unit = unit - numpy.float32(1.0)
    spread = numpy.float32(deviation * 3.0 ** 0.5)
    values = unit * spread + numpy.float32(mean)
    return torch.from_numpy(values.astype(numpy.float32)).reshape(shape)
