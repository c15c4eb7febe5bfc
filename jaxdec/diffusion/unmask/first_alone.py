"""The first position of a block by itself, then a policy."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.diffusion.candidates import Candidates
from jaxdec.diffusion.contract import Knobs, Unmask
from jaxdec.diffusion.unmask.around import Around
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class FirstAlone(Around):
    """See `first_alone`."""

    def choose(
        self, params: Params, seen: Candidates, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """The first position of a block, if it is open; else what the policy says."""
        first = seen.leading & seen.allowed
        reveal, after = self.policy.choose(params, self._rest(seen), state, knobs)
        alone = first.any(-1)
        keep = lambda old, new: jnp.where(alone.reshape(-1, *(1,) * (new.ndim - 1)), old, new)
        return jnp.where(alone[:, None], first, reveal), jax.tree.map(keep, state, after)

    def patience(self, params: Params, seen: Candidates, knobs: Knobs) -> jax.Array:
        """The policy's, after the step of the first position."""
        rest = self._rest(seen)
        return self.policy.patience(params, rest, knobs) + seen.step - rest.step

    def progress(self, params: Params, seen: Candidates, knobs: Knobs) -> jax.Array:
        """The policy's, of the rest."""
        return self.policy.progress(params, self._rest(seen), knobs)

    def ahead(self, params: Params, seen: Candidates, knobs: Knobs) -> tuple[jax.Array, jax.Array]:
        """The first position of a block, then as the policy guesses."""
        score, count = self.policy.ahead(params, self._rest(seen), knobs)
        first = seen.leading & seen.allowed
        return jnp.where(first, jnp.inf, score), jnp.where(first.any(-1), 1, count)

    def _rest(self, seen: Candidates) -> Candidates:
        """The group as it is for the policy: it began after the step that committed the first position."""
        before = (seen.leading & seen.committed).sum(-1, dtype=jnp.int32)
        return dataclasses.replace(
            seen, step=seen.step - jnp.minimum(before, 1), opened=seen.opened - before
        )


@typed
def first_alone(policy: Unmask) -> FirstAlone:
    """The first position of each block is committed by itself, before a policy chooses among the others.

        commit i  if i is open and the first of its block;   else as the policy

    For shifted models of blocks: the law of that position is the causal one after the finished block before, and all
    others are to see what it gives. The forward is the one that computes the finished block, so it costs no step more.

    Args:
      policy: for all other positions, which are a group of their own to it.

    Exactness: heuristic. Source: Fast-dLLM v2 2509.26328, with the request's temperature for that position too.
    """
    return FirstAlone(policy)
