"""A policy in blocks of a canvas that is one group.

Legend: B rows, W positions of the group.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Exactness, Knob, Request
from jaxdec.diffusion.candidates import Candidates
from jaxdec.diffusion.contract import Knobs, Unmask
from jaxdec.model import Params

NEVER = 2**30
"""A block that no position stands in."""


class BlockProgress(NamedTuple):
    """Where the policy is.

    Attributes:
      policy: its own state.
      block: int32 `[B]`, the block of the last step; -1 before the first.
      began: int32 `[B]`, the step of the group in which it began.
      opened: int32 `[B]`, positions that it had to fill.
    """

    policy: Any
    block: jax.Array
    began: jax.Array
    opened: jax.Array


@dataclasses.dataclass(frozen=True)
class InBlocks(Unmask):
    """See `in_blocks`.

    Attributes:
      policy: within a block.
      size: of a block.
    """

    policy: Unmask
    size: int

    @property
    def name(self) -> str:  # type: ignore[override]
        """The policy's."""
        return self.policy.name

    @property
    def knobs(self) -> dict[str, Knob]:
        """The policy's."""
        return self.policy.knobs

    @property
    def value_dependent(self) -> bool:
        """As the policy."""
        return self.policy.value_dependent

    @property
    def exactness(self) -> Exactness:
        """That of the policy."""
        return self.policy.exactness

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for a request or parameters that the policy cannot serve."""
        self.policy.check(request, params)

    def init(self, params: Params, batch: int, window: int) -> BlockProgress:
        """Before the first block."""
        zero = jnp.zeros((batch,), jnp.int32)
        return BlockProgress(self.policy.init(params, batch, window), zero - 1, zero, zero)

    def choose(
        self, params: Params, seen: Candidates, state: BlockProgress, knobs: Knobs
    ) -> tuple[jax.Array, BlockProgress]:
        """What the policy says of the first block that is not full."""
        now, within = self._within(params, seen, state)
        reveal, policy = self.policy.choose(params, within, now.policy, knobs)
        return reveal, now._replace(policy=policy)

    def ahead(self, params: Params, seen: Candidates, knobs: Knobs) -> tuple[jax.Array, jax.Array]:
        """As the policy guesses, and the blocks after this one later."""
        block, first = self._blocks(seen)
        own = block == first[:, None]
        within = dataclasses.replace(seen, allowed=seen.allowed & own)
        score, count = self.policy.ahead(params, within, knobs)
        return jnp.where(own, score, -jnp.inf), count

    def _blocks(self, seen: Candidates) -> tuple[jax.Array, jax.Array]:
        """The block of each position `[B, W]`, and the first that is not full `[B]`."""
        block = (seen.places - seen.progress.begin[:, None]) // self.size
        return block, jnp.min(jnp.where(seen.allowed, block, NEVER), axis=1)

    def _within(
        self, params: Params, seen: Candidates, state: BlockProgress
    ) -> tuple[BlockProgress, Candidates]:
        """The state in this step's block, and the group as if it were that block."""
        block, first = self._blocks(seen)
        own, new = block == first[:, None], first != state.block
        allowed = seen.allowed & own
        fresh = self.policy.init(params, *seen.places.shape)
        fresh = self.policy.renew(params, state.policy, fresh)
        pick = lambda a, b: jnp.where(new.reshape(-1, *(1,) * (b.ndim - 1)), a, b)
        now = BlockProgress(
            policy=jax.tree.map(pick, fresh, state.policy),
            block=first,
            began=jnp.where(new, seen.step, state.began),
            opened=jnp.where(new, allowed.sum(1, dtype=jnp.int32), state.opened),
        )
        within = dataclasses.replace(
            seen,
            allowed=allowed,
            committed=seen.committed & own,
            leading=seen.leading | ((seen.places - seen.progress.begin[:, None]) % self.size == 0),
            step=seen.step - now.began,
            opened=now.opened,
        )
        return now, within


@typed
def in_blocks(policy: Unmask, size: int) -> InBlocks:
    """A policy in one block after the other, on a canvas that is one group.

        block(i) = (i - prompt) // size;   candidates are the open positions of the first block that has any

    With `schedules.whole()` the decoding is that of `policy` with `schedules.blocks(size)` under full attention, but a
    stop sees and ends the whole canvas. Every step scores all of it.

    Args:
      policy: within a block, which is a group of its own to it; one that commits something in every step.
      size: positions of a block.

    Raises:
      ValueError: for a size below 1, or a policy that waits (`Unmask.patience`).

    Exactness: that of the policy. Source: LLaDA 2502.09992, whose decoder confines the candidates of a step so.
    """
    if size < 1:
        raise ValueError(f"blocks need at least 1 position, got {size}")
    if type(policy).patience is not Unmask.patience:
        raise ValueError(f"within blocks a policy commits something in every step, got {policy}")
    return InBlocks(policy, size)
