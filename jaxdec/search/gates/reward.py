"""Keeps a step with a good reward: reward-guided speculation.

Legend: B rows.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Knob
from jaxdec.model import Params
from jaxdec.search.contract import Scorer
from jaxdec.search.gates.contract import Judged
from jaxdec.search.gates.scored import ScoredGate


@dataclasses.dataclass(frozen=True)
class Rewarded(ScoredGate):
    """See `rewarded`."""

    @property
    def knobs(self) -> dict[str, Knob]:
        """`tau`, the reward from which on a step is kept."""
        return {"tau": Knob(0.7)}

    def keep(self, params: Params, judged: Judged) -> tuple[jax.Array, Any]:
        """Where the reward is at least tau."""
        assert self.scorer is not None
        reward = jax.nn.sigmoid(judged.score(self.scorer, params))
        reward = jnp.where(jnp.isnan(reward), 0.0, reward)
        return reward >= judged.settings.knobs["tau"], judged.own


@typed
def rewarded(reward: Scorer) -> Rewarded:
    """Keeps a drafted step iff its own reward is good enough, whatever the target would make of it.

        keep iff r >= tau,   r = sigmoid(score) in [0, 1]

    The knob `tau` is 0.7 unless the request says otherwise: at 0 or below everything is kept, above 1 nothing.

    Args:
      reward: gives r as its logit.

    Source: 2501.19324 (RSD), with its threshold rule.
    """
    return Rewarded(reward)
