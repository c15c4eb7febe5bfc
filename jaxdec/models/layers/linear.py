"""Linear maps whose kernels are `[inputs, outputs]`, and how they start."""

import math

from flax import nnx


def linear(
    inputs: int, outputs: int, rngs: nnx.Rngs, scale: float = 1.0, *, bias: bool = False
) -> nnx.Linear:
    """`x W`, or `x W + b`; W starts normal with deviation `scale / sqrt(inputs)`."""
    init = nnx.initializers.normal(scale / math.sqrt(inputs))
    return nnx.Linear(inputs, outputs, use_bias=bias, kernel_init=init, rngs=rngs)
