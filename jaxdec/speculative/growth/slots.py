"""Where frontiers stand in a window of tokens that a drafter feeds anew at each level.

Legend: as in `jaxdec.speculative.growth.contract`.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.speculative.growth.contract import Frontier


@dataclasses.dataclass(frozen=True)
class Slots:
    """Where the frontiers stand in a window of tokens that a drafter feeds anew at each level.

    The first `ahead` slots hold committed tokens, the pending one last among them; each later frontier is written
    behind the one before it. The last level is not fed, so that a window has `ahead + max(1, D - 1) F` slots.

    Attributes:
      ahead: slots of committed tokens.
      width: F.
      pending: int32 `[B, 1]`, the slot of the pending token.
    """

    ahead: int
    width: int
    pending: jax.Array

    def size(self, depth: int) -> int:
        """Slots of a window for trees of some depth."""
        return self.ahead + max(1, depth - 1) * self.width

    def _start(self, depth: jax.Array) -> jax.Array:
        return self.ahead + (depth - 1) * self.width

    def put(self, old: jax.Array, new: jax.Array, depth: jax.Array) -> jax.Array:
        """The window `[B, M, ...]` with the frontier `[B, F, ...]` of a level; the pending token is there already."""
        new = new.astype(old.dtype)
        written = jax.lax.dynamic_update_slice_in_dim(old, new, self._start(depth), axis=1)
        return jnp.where(depth == 0, old, written)

    def parents(self, frontier: Frontier, depth: jax.Array) -> jax.Array:
        """The slots int32 `[B, F]` of the parents of a level's frontier."""
        above = self._start(depth) - self.width + frontier.parents
        return jnp.where(depth == 1, self.pending, above)

    def at(self, depth: jax.Array) -> jax.Array:
        """The slots int32 `[B, F]` of a level's frontier."""
        return jnp.where(depth == 0, self.pending, self._start(depth) + jnp.arange(self.width))
