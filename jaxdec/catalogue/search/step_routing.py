"""Routing of steps between a draft model and the target."""

from jaxdec import search
from jaxdec.catalogue.method import Method, Parts
from jaxdec.catalogue.speculation.family import draft_model
from jaxdec.decoding import Exactness
from jaxdec.search import gates

STEP = 16
"""Tokens of a step where nothing says what a step is."""

TESTS = "tests/search/test_step_routing.py"

_LINES = search.until([2, [3, 5]], most=4)


def _steps(parts: Parts) -> search.Segment:
    return search.of_length(parts.length or STEP)


ROWS = [
    Method(
        "arbitrage",
        "Arbitrage: the target rewrites the steps of a draft model in which it is predicted to be better",
        "2512.05033",
        Exactness.HEURISTIC,
        lambda parts: search.arbitrage(parts.target, draft_model(parts), segment=_steps(parts)),
        TESTS,
        "",
        draft="code-draft",
        sample=lambda target, draft: search.arbitrage(target, draft, segment=_LINES),
        variants={
            "the oracle": lambda target, draft: search.step_routing(
                target, draft, gates.advantage(search.scorers.log_prob()), segment=_LINES
            ),
        },
    ),
    Method(
        "atts",
        "ATTS: the target goes on after segments of a draft model that a conformal test calls bad",
        "2509.15148",
        Exactness.HEURISTIC,
        lambda parts: search.atts(parts.target, draft_model(parts), segment=_steps(parts)),
        TESTS,
        "",
        draft="code-draft",
        sample=lambda target, draft: search.atts(target, draft, segment=_LINES, memory=4),
    ),
]
