"""Plain decoding, and speculation: families of drafters by verifiers."""

from jaxdec.autoregressive import autoregressive
from jaxdec.catalogue.method import Method
from jaxdec.catalogue.speculation import draft_models, model_free, trained
from jaxdec.catalogue.speculation.family import RULES, VERIFIERS, Family, Rule, draft_model
from jaxdec.decoding import Exactness

__all__ = ["FAMILIES", "ROWS", "RULES", "VERIFIERS", "Family", "Rule", "draft_model"]

_FAMILIES = [*draft_models.FAMILIES, *model_free.FAMILIES, *trained.FAMILIES]
FAMILIES = ("autoregressive", *(family.name for family in _FAMILIES))

ROWS = [
    Method(
        name="autoregressive",
        title="plain decoding, one forward a token",
        paper="",
        exactness=Exactness.TOKEN_IDENTICAL,
        make=lambda parts: autoregressive(parts.target),
        tests="tests/conformance/test_methods.py",
        benchmark="step_overhead",
    ),
    *(row for family in _FAMILIES for row in family.rows()),
]
