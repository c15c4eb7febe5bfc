"""One group."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.diffusion.schedules.contract import Schedule
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class Whole(Schedule):
    """See `whole`."""

    in_order = True

    def edges(self, room: int) -> int:
        """That before the first of a group."""
        return 1

    def assign(self, params: Params, prompt: jax.Array, length: int) -> tuple[jax.Array, jax.Array]:
        """All that is generated in group 0."""
        places = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), (prompt.shape[0], length))
        groups = jnp.where(places >= prompt[:, None], 0, -1).astype(jnp.int32)
        return groups, groups

    def largest(self, room: int) -> tuple[int, int]:
        """All that can be generated."""
        return room, room


def whole() -> Whole:
    """One group: every position may be committed at any time."""
    return Whole()
