"""Norms of a residual stream.

Legend: D width.
"""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import nnx

if TYPE_CHECKING:
    from jaxdec.models.config import TransformerConfig


class Norm(nnx.Module):
    """RMS norm or layer norm, in float32 whatever the type of its input.

        y = (x - m) (v + eps)^-1/2 (offset + scale) + bias

    over the last axis: m the mean and v the variance for a layer norm, m = 0 and v the mean square for an RMS norm.
    """

    def __init__(self, config: "TransformerConfig", width: int | None = None, *, rngs: nnx.Rngs):
        width = config.width if width is None else width
        self.epsilon, self.offset = config.norm_epsilon, config.norm_offset
        self.centred = config.norm == "layer"
        # Takes a key, as Flax's norms do, so that a seed gives the same network whatever its norms are made of.
        start = nnx.initializers.constant(1.0 - config.norm_offset)
        self.scale = nnx.Param(start(rngs.params(), (width,), jnp.float32))
        if config.norm_bias:
            self.bias = nnx.Param(jnp.zeros((width,), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[..., D]` to the same shape and type."""
        y = x.astype(jnp.float32)
        if self.centred:
            y = y - y.mean(-1, keepdims=True)
        scale = self.scale[...].astype(jnp.float32)
        scale = scale + self.offset if self.offset else scale
        y = y * (jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + self.epsilon) * scale)
        if hasattr(self, "bias"):
            y = y + self.bias[...].astype(jnp.float32)
        return y.astype(x.dtype)
