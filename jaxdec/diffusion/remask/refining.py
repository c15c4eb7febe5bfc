"""Tokens that are predicted again beside those that are committed: the refining of ReDiff.

Legend: B rows, W positions of the active group.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Knob
from jaxdec.diffusion.candidates import Candidates, top
from jaxdec.diffusion.contract import Knobs, knob_default
from jaxdec.diffusion.remask.contract import Remask
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class Refining(Remask):
    """See `refining`."""

    share: float = knob_default()
    start: float = knob_default()
    rewrites = True

    @property
    def knobs(self) -> dict[str, Knob]:
        """`refined_share` and `refine_from`."""
        return {
            "refined_share": Knob(self.share, 0, 1),
            "refine_from": Knob(self.start, 0, 1),
        }

    def init(self, params: Params, batch: int, window: int) -> Any:
        """Nothing."""
        return None

    def take_back(
        self, params: Params, seen: Candidates, reveal: jax.Array, state: None, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """The surest of the committed tokens, for which another token was drawn."""
        known = seen.committed.sum(-1)
        whole = known + seen.allowed.sum(-1)
        begun = known >= jnp.ceil(knobs["refine_from"] * whole)
        count = jnp.floor(knobs["refined_share"] * known).astype(jnp.int32)
        surest = top(seen.own.log_prob, seen.committed, jnp.where(begun, count, 0))
        return surest & (seen.drawn != seen.tokens), None


@typed
def refining(share: float = 1.0, start: float = 0.0) -> Refining:
    """Refining: committed tokens of the active group are predicted again in the forward that commits further ones.

        x_i <- v_i   for the floor(share n) positions of the highest p_i(v_i) among the n that are committed,

    v the tokens drawn in this step, from the step on in which at least the share `start` of the group is committed.
    No forward is added: what is committed last is never predicted again.

    Args:
      share: of the committed positions, the surest first (knob `refined_share`); 0 refines nothing.
      start: of the group (knob `refine_from`). With as many tokens committed in each of S steps, the published rule
        that refines in the last `ceil(S r)` of them has a `start` of `1 - r`.

    Raises:
      ValueError: where a request is prepared, for shares outside [0, 1].

    Exactness: heuristic; with a share of 0, or a model that predicts what it is shown, the tokens of the policy alone.

    Source: ReDiff, From Denoising to Refining. Its models are trained to revise: on texts in which tokens were
    replaced, and on corrected drafts of their own; none so trained is shipped. Banned control tokens are the request's
    matter.
    """
    return Refining(share, start)
