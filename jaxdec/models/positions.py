"""Heads on how sure a model is of the positions of a canvas: a policy of unmasking, and a filter of final tokens.

Legend: B rows, W positions of a group, D width.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdec.arguments import check_fields
from jaxdec.model import Sureness
from jaxdec.models.layers.rotary import Rotary

ROTARY = Rotary()
DOUBTS = 12.0
"""Nats of doubt, `-log(1 - confidence)`, that count as one; more count as this many."""


@dataclasses.dataclass(frozen=True)
class UnmaskingConfig:
    """Sizes of `UnmaskingPolicy`; hashable.

    Attributes:
      width: D, divisible by 4 and by twice the heads.
      hidden: inner width.
      heads: of attention.
      layers: blocks.
      reads: no hidden states.
    """

    width: int = 32
    hidden: int = 64
    heads: int = 2
    layers: int = 1
    reads: ClassVar[None] = None

    def __post_init__(self):
        check_fields(self)
        for name in ("width", "hidden", "heads", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.width % 4 or self.width % (2 * self.heads):
            raise ValueError(
                f"width must be divisible by 4 and by twice the {self.heads} heads, got {self.width}"
            )


class AdaptiveBlock(nnx.Module):
    """A transformer block whose norms are scaled and shifted, and whose branches are gated, by the time: adaLN-zero."""

    def __init__(self, config: UnmaskingConfig, *, rngs: nnx.Rngs):
        width, self.heads = config.width, config.heads
        zeros = nnx.initializers.zeros
        self.modulation = nnx.Linear(width, 6 * width, kernel_init=zeros, rngs=rngs)
        self.norms = nnx.List(
            [
                nnx.LayerNorm(width, use_bias=False, use_scale=False, rngs=rngs),
                nnx.LayerNorm(width, use_bias=False, use_scale=False, rngs=rngs),
            ]
        )
        self.mixed = nnx.Linear(width, 3 * width, rngs=rngs)
        self.out = nnx.Linear(width, width, rngs=rngs)
        self.up = nnx.Linear(width, config.hidden, rngs=rngs)
        self.down = nnx.Linear(config.hidden, width, rngs=rngs)

    def __call__(self, x: jax.Array, there: jax.Array, time: jax.Array) -> jax.Array:
        """Maps `x [B, W, D]`, of which positions that are not `there` are seen by none; `time [B, D]`."""
        parts = jnp.split(self.modulation(nnx.silu(time))[:, None], 6, axis=-1)
        shift, scale, gate, shift_up, scale_up, gate_up = parts
        x = x + gate * self.out(self._attended(self.norms[0](x) * (1 + scale) + shift, there))
        inner = self.norms[1](x) * (1 + scale_up) + shift_up
        return x + gate_up * self.down(nnx.gelu(self.up(inner)))

    def _attended(self, x: jax.Array, there: jax.Array) -> jax.Array:
        batch, window, width = x.shape
        split = lambda x: x.reshape(batch, window, self.heads, -1).swapaxes(1, 2)
        query, key, value = map(split, jnp.split(self.mixed(x), 3, axis=-1))
        # Places count from the first position of the group, wherever that lies in the window.
        places = jnp.maximum(jnp.cumsum(there, axis=1, dtype=jnp.int32) - 1, 0)
        query, key = ROTARY(query, places), ROTARY(key, places)
        weight = query @ key.swapaxes(2, 3) / jnp.sqrt(jnp.float32(query.shape[-1]))
        weight = jax.nn.softmax(jnp.where(there[:, None, None], weight, -1e9), axis=-1)
        return (weight @ value).swapaxes(1, 2).reshape(batch, window, width)


class UnmaskingPolicy(nnx.Module):
    """A small transformer over the positions of a group: the logit of committing each.

    Reads the confidence (as it is, and as nats of doubt), whether a position is masked, and the time.

    Source: 2512.09106, one layer with adaLN on the time; places by rotation, and the doubt, are ours.
    """

    def __init__(self, config: UnmaskingConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.embed = nnx.Linear(3, config.width, rngs=rngs)
        self.time_in = nnx.Linear(config.width, config.width, rngs=rngs)
        self.time_out = nnx.Linear(config.width, config.width, rngs=rngs)
        self.blocks = nnx.List([AdaptiveBlock(config, rngs=rngs) for _ in range(config.layers)])
        self.norm = nnx.LayerNorm(config.width, rngs=rngs)
        self.logit = nnx.Linear(config.width, 1, rngs=rngs)

    def __call__(self, seen: Sureness) -> jax.Array:
        """Logits, float32 `[B, W]`; what stands where nothing is there means nothing."""
        sure = jnp.where(seen.there, seen.confidence, 0.0)
        doubt = -jnp.log(jnp.maximum(1 - sure, jnp.exp(-DOUBTS))) / DOUBTS
        x = self.embed(jnp.stack([sure, doubt, seen.masked.astype(jnp.float32)], axis=-1))
        time = self.time_out(nnx.silu(self.time_in(_waves(seen.time, self.config.width))))
        for block in self.blocks:
            x = block(x, seen.there, time)
        return self.logit(self.norm(x))[..., 0].astype(jnp.float32)


def _waves(time: jax.Array, width: int) -> jax.Array:
    """Sines and cosines of `time [B]` at `width / 2` frequencies."""
    angles = time[:, None] * jnp.exp(jnp.linspace(0.0, 5.0, width // 2, dtype=jnp.float32))
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


@dataclasses.dataclass(frozen=True)
class FinalityConfig:
    """Sizes of `FinalityFilter`; hashable.

    Attributes:
      window: positions of a block.
      hidden: inner width.
    """

    window: int = 32
    hidden: int = 64

    def __post_init__(self):
        check_fields(self)
        for name in ("window", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


class FinalityFilter(nnx.Module):
    """Two layers on the confidences of a block: the logit that what is most probable at each position is final.

        l = V relu(U c + a) + b

    Positions of a block that are not there, behind the end of a canvas, count as certain.

    Source: Learn2PD 2509.25188.
    """

    def __init__(self, config: FinalityConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.up = nnx.Linear(config.window, config.hidden, rngs=rngs)
        self.down = nnx.Linear(config.hidden, config.window, rngs=rngs)

    def __call__(self, seen: Sureness) -> jax.Array:
        """Logits, float32 `[B, W]`, W the positions of a block."""
        sure = jnp.where(seen.there, seen.confidence, 1.0)
        return self.down(nnx.relu(self.up(sure))).astype(jnp.float32)
