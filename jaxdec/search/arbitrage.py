"""Arbitrage: steps of a draft model, which the target rewrites where it is predicted to be better."""

from jaxdec.arguments import typed
from jaxdec.model import Model
from jaxdec.search.contract import Scorer
from jaxdec.search.gates import predicted_advantage
from jaxdec.search.segments import Segment
from jaxdec.search.step_routing import StepRouting, step_routing


@typed
def arbitrage(
    target: Model, draft: Model, router: Scorer | None = None, *, segment: Segment
) -> StepRouting:
    """Arbitrage: the target rewrites the steps in which it is predicted to be better.

        step = the draft's if u < tau, else the target's

    `step_routing` with `gates.predicted_advantage(router)`. The knob `tau` is 0.7 unless the request says otherwise: at
    0 or below the target writes everything, above 1 the draft model does.

    Args:
      target: the target, `params["target"]`.
      draft: a model of its vocabulary, `params["draft"]`.
      router: gives u as its logit; how unsure the draft model was if not given.
      segment: a step, with a bound, such as `until([newline], most=64)`.

    Raises:
      ValueError: as `step_routing`.

    Exactness: heuristic.
    Source: 2512.05033.
    """
    return step_routing(target, draft, predicted_advantage(router), segment=segment)
