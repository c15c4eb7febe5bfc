"""Keeps the better one of two steps: what a router of Arbitrage tries to predict.

Legend: B rows.
"""

import dataclasses
from typing import Any

import jax

from jaxdec.arguments import typed
from jaxdec.decoding import Knob
from jaxdec.model import Params
from jaxdec.search.contract import Scorer
from jaxdec.search.gates.contract import Judged
from jaxdec.search.gates.scored import ScoredGate


@dataclasses.dataclass(frozen=True)
class Advantage(ScoredGate):
    """See `advantage`."""

    compares: bool = True

    @property
    def knobs(self) -> dict[str, Knob]:
        """`tau`, the advantage above which the target's step is taken."""
        return {"tau": Knob(0.0)}

    def keep(self, params: Params, judged: Judged) -> tuple[jax.Array, Any]:
        """Where the target's step is not better by more than tau."""
        assert self.scorer is not None
        reward = lambda target: jax.nn.sigmoid(judged.score(self.scorer, params, target=target))
        better = reward(True) - reward(False)
        return ~(better > judged.settings.knobs["tau"]), judged.own


@typed
def advantage(reward: Scorer) -> Advantage:
    """The oracle: both models write each step, and the target's is taken iff it is better.

        keep iff not A > tau,   A = r(target's step) - r(drafted step),   r = sigmoid(score) in [0, 1]

    It saves nothing: it is the bound of what a router can reach, and gives the labels that one is trained on. The knob
    `tau` is 0 unless the request says otherwise; from 1 on everything is kept, below -1 nothing.

    Args:
      reward: gives r as its logit, from tokens alone: states of two models are not comparable.

    Raises:
      ValueError: for a reward that reads states.

    Source: 2512.05033.
    """
    if reward.forwards:
        raise ValueError(
            "the reward must be read from tokens, such as scorers.of_tokens; "
            f"{type(reward).__name__} reads states, of which each model has its own"
        )
    return Advantage(reward)
