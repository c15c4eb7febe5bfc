"""Feed-forward units.

Legend: B rows, T new tokens, D width.
"""

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
from flax import nnx

from jaxdec.models.layers.linear import linear

if TYPE_CHECKING:
    from jaxdec.models.config import TransformerConfig

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "silu": jax.nn.silu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
}


class MLP(nnx.Module):
    """`down(act(gate(x)) * up(x))`, SwiGLU or GeGLU by its activation; without a gate `down(act(up(x)))`."""

    def __init__(self, config: "TransformerConfig", hidden: int | None = None, *, rngs: nnx.Rngs):
        hidden, bias = config.hidden if hidden is None else hidden, config.mlp_bias
        self.activation, self.gated = config.activation, config.gated
        if config.gated:
            self.gate_proj = linear(config.width, hidden, rngs, bias=bias)
        self.up_proj = linear(config.width, hidden, rngs, bias=bias)
        scale = 1 / math.sqrt(2 * config.layers)
        self.down_proj = linear(hidden, config.width, rngs, scale, bias=bias)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[B, T, D]` to `[B, T, D]`."""
        act = ACTIVATIONS[self.activation]
        if self.gated:
            return self.down_proj(act(self.gate_proj(x)) * self.up_proj(x))
        return self.down_proj(act(self.up_proj(x)))
