"""Every decoder passes the battery that its declaration implies."""

import pytest

import jaxdec
from jaxdec.testing import battery
from jaxdec.testing.drafters import comb

VERIFIERS = {
    "walk": jaxdec.verifiers.SharedNoiseWalk(),
    "token": jaxdec.verifiers.TokenRatio(),
    "block": jaxdec.verifiers.BlockVerification(),
}
DRAFTERS = {
    "draft": lambda draft: jaxdec.drafters.model(draft, length=4),
    "lookup": lambda draft: jaxdec.drafters.prompt_lookup(length=5, max_ngram=3),
}


def speculative(drafter, verifier):
    return lambda target, draft: jaxdec.speculative(
        target, drafter=DRAFTERS[drafter](draft), verifier=VERIFIERS[verifier]
    )


FACTORIES = {
    "autoregressive": lambda target, draft: jaxdec.autoregressive(target),
    **{f"{d}-{v}": speculative(d, v) for d in DRAFTERS for v in VERIFIERS},
    "one draft-walk": lambda target, draft: jaxdec.speculative(
        target, drafter=jaxdec.drafters.model(draft, length=1)
    ),
    "tree-walk": lambda target, draft: jaxdec.speculative(target, drafter=comb(draft)),
}
CASES = [(name, check) for name, make in FACTORIES.items() for check in battery.checks(make)]


@pytest.mark.parametrize(
    ("name", "check"), CASES, ids=[f"{name}-{check.__name__[6:]}" for name, check in CASES]
)
def test_battery(name, check):
    check(FACTORIES[name])
