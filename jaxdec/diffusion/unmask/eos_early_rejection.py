"""End tokens count for less at first."""

import dataclasses
from typing import Any

import jax

from jaxdec.arguments import typed
from jaxdec.decoding import Knob
from jaxdec.diffusion.candidates import PROBABILITIES, Candidates
from jaxdec.diffusion.contract import Knobs, Unmask, knob_default
from jaxdec.diffusion.unmask.around import Around
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class EosEarlyRejection(Around):
    """See `eos_early_rejection`."""

    least: float = knob_default()
    most: float = knob_default()

    @property
    def knobs(self) -> dict[str, Knob]:
        """`eos_least` and `eos_most`, and the policy's."""
        own = {"eos_least": Knob(self.least, 0), "eos_most": Knob(self.most, 0)}
        return {**self.policy.knobs, **own}

    def choose(
        self, params: Params, seen: Candidates, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """As the policy, with end tokens discounted."""
        return self.policy.choose(params, self._weighed(params, seen, knobs), state, knobs)

    def ahead(self, params: Params, seen: Candidates, knobs: Knobs) -> tuple[jax.Array, jax.Array]:
        """As the policy guesses, with end tokens discounted."""
        return self.policy.ahead(params, self._weighed(params, seen, knobs), knobs)

    def _weighed(self, params: Params, seen: Candidates, knobs: Knobs) -> Candidates:
        least, most = knobs["eos_least"], knobs["eos_most"]
        weight = least + (most - least) * self.policy.progress(params, seen, knobs)
        return dataclasses.replace(seen, end_weight=weight)


@typed
def eos_early_rejection(policy: Unmask, least: float = 0.4, most: float = 1.0) -> EosEarlyRejection:
    """EOSER: the confidence in a token that ends the row is discounted, most of all in the first steps of a group.

        c_i <- g c_i  where the token of i ends its row;   g = least + (most - least) t,  t the progress of the group

    so that a canvas decoded as a whole is not filled with end tokens from behind. Only the score that the policy ranks
    by changes: no token is banned, and no law.

    Args:
      policy: ranks by a probability. t is its own (`Unmask.progress`): s / (S - 1) in step s of S of a quota, the share
        after the step with doubling steps, and the share of the group that is committed for all others.
      least: the weight at t = 0 (knob `eos_least`), at least 0; the paper's is 0.01 with doubling steps. 1 for both
        weights changes nothing.
      most: the weight at t = 1 (knob `eos_most`).

    The token of i is the drawn one for scores that look at it, else the most probable one, so that a policy that does
    not look at draws still does not.

    Raises:
      ValueError: for a policy whose score is no probability.

    Exactness: heuristic. One token a step in an order that does not look at draws samples the model's own laws along
    it.

    Source: 2509.23924, whose released code counts steps in a block against those of all blocks: here both are the
    group's. Its training over whole trajectories (CJ-GRPO) is missing.
    """
    if policy.by not in PROBABILITIES:
        raise ValueError(
            f"eos_early_rejection discounts scores that are probabilities, {', '.join(PROBABILITIES)}; "
            f"{type(policy).__name__} ranks by {policy.by!r}"
        )
    return EosEarlyRejection(policy, least, most)
