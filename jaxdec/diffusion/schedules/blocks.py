"""Blocks from left to right."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.diffusion.schedules.contract import Schedule
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class Blocks(Schedule):
    """See `blocks`.

    Attributes:
      size: positions of a group.
      unit: positions of a block that holds whole groups; None for groups that are blocks.
      from_start: whether groups are counted from the start of the sequence rather than from the end of the prompt. The
        rest of a block that the prompt begins is then the first group.
    """

    size: int
    unit: int | None = None
    from_start: bool = False

    @property
    def overlap(self) -> int:
        """The beginning of a block."""
        return self.unit or self.size

    in_order = True

    def edges(self, room: int) -> int:
        """That before the first of a group."""
        return 1

    def assign(self, params: Params, prompt: jax.Array, length: int) -> tuple[jax.Array, jax.Array]:
        """By division."""
        places = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), (prompt.shape[0], length))
        if not self.from_start:
            places = places - prompt[:, None]
        groups, units = (
            jnp.where(places >= 0, places // size, -1)
            for size in (self.size, self.unit or self.size)
        )
        return groups, units

    def largest(self, room: int) -> tuple[int, int]:
        """A group and a block."""
        return self.size, self.unit or self.size


@typed
def blocks(size: int, *, within: int | None = None, from_start: bool = False) -> Blocks:
    """Blocks from left to right: `group(i) = i // size`; semi-autoregressive decoding.

    Args:
      size: positions of a block.
      within: the size of larger blocks that these are parts of (sub-blocks, 2509.26328); divisible by `size`.
        Attention and caches then go by the larger ones.
      from_start: count from the start of the sequence, as block-causal models are trained, rather than from the end
        of the prompt.

    Raises:
      ValueError: for sizes below 1 or that do not divide.

    Source: LLaDA 2502.09992 (from the prompt's end); BD3-LM 2503.09573 and SDAR 2510.06303 (from the start).
    """
    if size < 1:
        raise ValueError(f"blocks need at least 1 position, got {size}")
    if within is not None and (within < size or within % size):
        raise ValueError(f"sub-blocks of {size} positions do not divide blocks of {within}")
    return Blocks(size=size, unit=within, from_start=from_start)
