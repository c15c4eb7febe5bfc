"""Heads that score a target's hidden states: process rewards, values and judges of drafts.

Legend: D width of the target.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdec.arguments import check_fields


@dataclasses.dataclass(frozen=True)
class ScoreConfig:
    """Sizes of `Score`; hashable.

    Attributes:
      width: D, the target's.
      hidden: inner width; 0 for a linear head.
    """

    width: int
    hidden: int = 64

    def __post_init__(self):
        check_fields(self)
        for name, least in (("width", 1), ("hidden", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")


class Score(nnx.Module):
    """One or two layers on a hidden state; the score is the logistic function of what they give.

    l = v silu(W h + b) + c,   or   v h + c   for a linear head
    """

    def __init__(self, config: ScoreConfig, *, rngs: nnx.Rngs):
        self.config = config
        if config.hidden:
            self.up = nnx.Linear(config.width, config.hidden, rngs=rngs)
        inner = config.hidden or config.width
        # Every score starts as one half.
        self.down = nnx.Linear(inner, 1, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, hidden: jax.Array) -> jax.Array:
        """Maps states `[..., D]` to logits, float32 `[...]`."""
        inner = nnx.silu(self.up(hidden)) if self.config.hidden else hidden
        return self.down(inner)[..., 0].astype(jnp.float32)
