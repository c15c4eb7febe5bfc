"""ATTS: segments of a draft model, after the worst of which the target goes on."""

from jaxdec.arguments import typed
from jaxdec.model import Model
from jaxdec.search.gates import conformal
from jaxdec.search.segments import Segment
from jaxdec.search.step_routing import StepRouting, step_routing


@typed
def atts(
    target: Model,
    draft: Model,
    *,
    segment: Segment,
    calibration: str | None = None,
    memory: int = 64,
) -> StepRouting:
    """ATTS: the target goes on after segments of the draft model that a conformal test calls bad.

        s = perplexity under the target;   the target writes the next segment iff p(s) <= alpha

    `step_routing` with `gates.conformal(calibration, memory)` and nothing rewritten: no row waits for another, as each
    compares with stored scores. The knob `alpha` is 0.4 unless the request says otherwise: at 0 the draft model writes
    everything, at 1 both take turns.

    Args:
      target: the target, `params["target"]`.
      draft: a model of its vocabulary, `params["draft"]`.
      segment: what is written at a time, with a bound, such as `of_length(500)`.
      calibration: the name in `params` of scores [n], float; None for none.
      memory: scores of its own segments that a row remembers at most.

    Raises:
      ValueError: as `step_routing` and `gates.conformal`.

    Exactness: heuristic.
    Source: 2509.15148.
    """
    gate = conformal(calibration, memory)
    return step_routing(target, draft, gate, segment=segment, rewrite=False)
