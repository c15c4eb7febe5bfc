"""Every any-subset decoder passes the battery, on random visible sets and random fixed orders."""

import pytest

import jaxdec
from jaxdec import any_subset
from jaxdec.testing import battery

TOKEN = jaxdec.verifiers.TokenRatio()
FACTORIES = {
    "any-order": lambda target, draft: jaxdec.autoregressive(target),
    "assd": lambda target, draft: any_subset.assd(target, width=3),
    "assd-token": lambda target, draft: any_subset.assd(target, width=3, verifier=TOKEN),
    "assd-published": lambda target, draft: any_subset.assd(
        target, width=3, verifier=TOKEN, bonus=False
    ),
    "assd-ngram": lambda target, draft: any_subset.assd(target, width=3, draft="ngram"),
    "assd-ngram-token": lambda target, draft: any_subset.assd(
        target, width=3, draft="ngram", verifier=TOKEN
    ),
    "fused": lambda target, draft: any_subset.fused(target, width=3),
    "fused-token": lambda target, draft: any_subset.fused(
        target, width=3, outcomes=2, verifier=TOKEN
    ),
    "fused-tree": lambda target, draft: any_subset.fused(target, width=3, nodes=6, outcomes=4),
    "adaptive": lambda target, draft: jaxdec.adaptive(
        lambda length: any_subset.assd(target, width=length, verifier=TOKEN), (2, 4)
    ),
    "draft": lambda target, draft: jaxdec.speculative(
        target, drafter=jaxdec.drafters.model(draft, length=3)
    ),
    "parallel": lambda target, draft: any_subset.parallel_sampling(target, width=3),
}
# Parts that another test file runs in full, or that differ from a pair tested here by a verifier or an option, get what
# their declaration implies.
BRIEF = {
    "fused-tree",
    "fused-token",
    "assd-token",
    "assd-published",
    "assd-ngram-token",
    "draft",
    "adaptive",
}
# Its law is that of "adaptive", which drafts with it, and is enumerated beside (test_round_laws.py).
SAME_LAW = {"assd-token"}
WIDTH_ONE = "parallel, one a forward"


def factory(name):
    if name == WIDTH_ONE:
        return lambda target, draft: any_subset.parallel_sampling(target, width=1)
    return FACTORIES[name]


def cases():
    yield "any-order", battery.check_law
    yield "adaptive", battery.check_row_alone
    yield WIDTH_ONE, battery.check_token_identity
    for name, make in FACTORIES.items():
        for check in battery.checks(battery.ordered(make)):
            if name in BRIEF and check in battery.ALWAYS:
                continue
            if name in SAME_LAW and check is battery.check_law:
                continue
            yield name, check


CASES = list(cases())


@pytest.mark.parametrize(
    ("name", "check"),
    [
        pytest.param(
            name,
            check,
            id=f"{name}-{check.__name__[6:]}",
            marks=[pytest.mark.slow] if name in BRIEF else [],
        )
        for name, check in CASES
    ],
)
def test_battery(name, check, request):
    if check is not battery.check_law:
        request.getfixturevalue("quick_compilation")
    check(battery.ordered(factory(name)))
