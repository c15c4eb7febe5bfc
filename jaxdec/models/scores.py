"""Heads that score a target's hidden states: process rewards and values.

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
      hidden: inner width.
    """

    width: int
    hidden: int = 64

    def __post_init__(self):
        check_fields(self)
        for name in ("width", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


class Score(nnx.Module):
    """Two layers on a hidden state; the score is the logistic function of what they give.

    l = v silu(W h + b) + c
    """

    def __init__(self, config: ScoreConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.up = nnx.Linear(config.width, config.hidden, rngs=rngs)
        # Every score starts as one half.
        self.down = nnx.Linear(config.hidden, 1, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, hidden: jax.Array) -> jax.Array:
        """Maps states `[..., D]` to logits, float32 `[...]`."""
        return self.down(nnx.silu(self.up(hidden)))[..., 0].astype(jnp.float32)
