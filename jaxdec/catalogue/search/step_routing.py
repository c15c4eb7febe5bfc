"""Routing of steps between a draft model and the target."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec import search
from jaxdec.catalogue.method import Method, Parts
from jaxdec.catalogue.speculation.family import draft_model
from jaxdec.decoding import Exactness, Rows
from jaxdec.model import Model, Params

STEP = 16
"""Tokens of a step where nothing says what a step is."""

TESTS = "tests/search/test_step_routing.py"

_LINES = search.until([2, [3, 5]], most=4)


@dataclasses.dataclass(frozen=True)
class Before(search.Scorer):
    """A router for tests, which reads the token before a step alone: what cuts the step then changes no decision."""

    def score(
        self,
        params: Params,
        model: Model,
        target: Params,
        cache: Any,
        rows: Rows,
        pool: search.Pool,
    ) -> jax.Array:
        """See `Scorer`."""
        last = jnp.take_along_axis(rows.tokens, pool.start[:, None] - 1, axis=1)[:, 0]
        return (last % 3 - 1).astype(jnp.float32)


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
        "search",
        draft="code-draft",
        sample=lambda target, draft: search.arbitrage(target, draft, Before(), segment=_LINES),
    ),
    Method(
        "atts",
        "ATTS: the target goes on after segments of a draft model that a conformal test calls bad",
        "2509.15148",
        Exactness.HEURISTIC,
        lambda parts: search.atts(parts.target, draft_model(parts), segment=_steps(parts)),
        TESTS,
        "search",
        draft="code-draft",
        sample=lambda target, draft: search.atts(target, draft, segment=_LINES, memory=4),
    ),
]
