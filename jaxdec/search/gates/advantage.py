"""Keeps a step unless the target's is predicted to be better: the router of Arbitrage.

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
class PredictedAdvantage(ScoredGate):
    """See `predicted_advantage`."""

    @property
    def knobs(self) -> dict[str, Knob]:
        """`tau`, the predicted advantage from which on a step is not kept."""
        return {"tau": Knob(0.7)}

    def keep(self, params: Params, judged: Judged) -> tuple[jax.Array, Any]:
        """Where u is below tau."""
        if self.scorer is None:
            advantage = 1 - jnp.exp(judged.drafted.mean_log_prob(judged.rows))
        else:
            advantage = jax.nn.sigmoid(judged.score(self.scorer, params))
        advantage = jnp.where(jnp.isnan(advantage), 1.0, advantage)
        return advantage < judged.settings.knobs["tau"], judged.own


@typed
def predicted_advantage(router: Scorer | None = None) -> PredictedAdvantage:
    """Keeps a drafted step iff the predicted advantage of the target's is small.

        keep iff u < tau,   u in [0, 1] the probability that the target's step would be better

    The knob `tau` is 0.7 unless the request says otherwise: at 0 or below nothing is kept, above 1 everything. Of n
    steps the target writes those with u >= tau, whatever its own laws are.

    Args:
      router: gives u as its logit, from the past and the drafted step, such as `scorers.of_tokens` or `of_hidden` (of
        the draft model's states, one of its forwards more). If not given, u is how unsure the draft model was of its
        step, `1 - exp(mean log q)`, q its unwarped law.

    Source: 2512.05033. Without a router it is our stand-in for a trained one.
    """
    return PredictedAdvantage(router)
