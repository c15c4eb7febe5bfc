"""A policy in the leftmost block that is not full.

Legend: B rows, W positions of the active group.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Knob, Request
from jaxdec.diffusion.candidates import Candidates
from jaxdec.diffusion.contract import Knobs, Unmask, knob_default
from jaxdec.diffusion.unmask.around import Around
from jaxdec.model import Params


class _InBlocks(NamedTuple):
    """The block of the last step and the steps taken in it, int32 `[B]` each, and the policy's state."""

    block: jax.Array
    step: jax.Array
    own: Any


@dataclasses.dataclass(frozen=True)
class InBlocks(Around):
    """See `in_blocks`."""

    size: int = knob_default()

    @property
    def knobs(self) -> dict[str, Knob]:
        """`block`: positions of a block; and the policy's."""
        return {**self.policy.knobs, "block": Knob(self.size, 1, integer=True)}

    def init(self, params: Params, batch: int, window: int) -> Any:
        """No block yet."""
        none = jnp.full((batch,), -1, jnp.int32)
        return _InBlocks(none, none, self.policy.init(params, batch, window))

    def begin(self, params: Params, request: Request, state: _InBlocks) -> _InBlocks:
        """No block yet, and what the policy has read."""
        return state._replace(own=self.policy.begin(params, request, state.own))

    def renew(self, params: Params, state: _InBlocks, fresh: _InBlocks) -> _InBlocks:
        """No block yet, and what the policy remembers."""
        return fresh._replace(own=self.policy.renew(params, state.own, fresh.own))

    def choose(
        self, params: Params, seen: Candidates, state: _InBlocks, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """As the policy, of the block alone; a block is the policy's next group."""
        block, inside = leftmost_block(seen.allowed, knobs["block"])
        new = block != state.block
        step = jnp.where(new, 0, state.step)
        fresh = self.policy.init(params, *seen.allowed.shape)
        fresh = self.policy.renew(params, state.own, fresh)
        anew = lambda fresh, old: jnp.where(new.reshape(-1, *(1,) * (old.ndim - 1)), fresh, old)
        own = jax.tree.map(anew, fresh, state.own)
        reveal, own = self.policy.choose(params, _limited(seen, inside, step), own, knobs)
        return reveal & inside, _InBlocks(block, step + 1, own)

    def patience(self, params: Params, seen: Candidates, knobs: Knobs) -> jax.Array:
        """None: see `in_blocks`."""
        return jnp.zeros_like(seen.step)

    def progress(self, params: Params, seen: Candidates, knobs: Knobs) -> jax.Array:
        """By the share of the group that is committed."""
        return Unmask.progress(self, params, seen, knobs)

    def ahead(self, params: Params, seen: Candidates, knobs: Knobs) -> tuple[jax.Array, jax.Array]:
        """As the policy guesses in the first step of the block, then from left to right."""
        _, inside = leftmost_block(seen.allowed, knobs["block"])
        first = _limited(seen, inside, jnp.zeros_like(seen.step))
        score, count = self.policy.ahead(params, first, knobs)
        score = jnp.where(jnp.isnan(score), jnp.finfo(jnp.float32).min, score)
        return jnp.where(inside, score, -jnp.inf), count


def leftmost_block(allowed: jax.Array, size: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The first block with a position that is allowed, int32 `[B]`, and its positions, bool `[B, W]`.

    Args:
      allowed: bool `[B, W]`.
      size: int32 `[B]`, positions of a block, counted from the beginning of the group.
    """
    block = jnp.argmax(allowed, axis=-1).astype(jnp.int32) // size
    index = jnp.arange(allowed.shape[-1], dtype=jnp.int32)
    return block, index // size[:, None] == block[:, None]


def _limited(seen: Candidates, inside: jax.Array, step: jax.Array) -> Candidates:
    """The block as a group of its own."""
    allowed, committed = seen.allowed & inside, seen.committed & inside
    opened = (allowed | committed).sum(-1, dtype=jnp.int32)
    return dataclasses.replace(seen, allowed=allowed, committed=committed, step=step, opened=opened)


@typed
def in_blocks(policy: Unmask, size: int = 32) -> InBlocks:
    """A policy in the leftmost block of the active group that is not full: semi-autoregressive decoding.

        commit i  iff  i // size = min over masked j of (j // size),  and the policy commits it

    with i counted in the group. To the policy each block is a group of its own. This is what `schedules.blocks` does,
    with a size that is traced and may be another one in each row; attention and caches know nothing of it.

    Args:
      policy: one that commits something in each step (not `ancestral`, whose patience counts the steps of a group).
      size: positions of a block (knob `block`).

    Raises:
      ValueError: for a size below 1, or a policy with patience.

    Exactness: heuristic; which positions form a block looks at no draw. Source: LLaDA 2502.09992; sizes by row as HEX
    2510.05040 has them.
    """
    if size < 1:
        raise ValueError(f"blocks need at least 1 position, got {size}")
    inner = policy
    while isinstance(inner, Around):
        inner = inner.policy
    if type(inner).patience is not Unmask.patience:
        raise ValueError(
            f"in_blocks needs a policy that commits something in each step, {type(inner).__name__} may wait"
        )
    return InBlocks(policy, size)
