"""Every decoder passes the battery that its declaration implies."""

import pytest

import jaxdec
from jaxdec.testing import battery
from jaxdec.testing.drafters import branching, comb

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
    "adaptive-walk": lambda target, draft: jaxdec.adaptive(
        lambda length: jaxdec.speculative(
            target, drafter=jaxdec.drafters.model(draft, length=length)
        ),
        (1, 4),
    ),
    "tree-walk": lambda target, draft: jaxdec.speculative(target, drafter=comb(draft)),
    "tree-recursive": lambda target, draft: jaxdec.speculative(
        target, drafter=branching(draft, 2, 1), verifier=jaxdec.verifiers.RecursiveRejection()
    ),
    "tree-kseq": lambda target, draft: jaxdec.speculative(
        target, drafter=branching(draft, 3, replacement=True), verifier=jaxdec.verifiers.KSeq()
    ),
}
# Where only the verifier or the length differs from a pair that is tested in full, what the declaration implies.
BRIEF = {"adaptive-walk", "lookup-token", "lookup-block", "one draft-walk"}
BRIEF |= {"tree-recursive", "tree-kseq"}


def cases():
    # Decoders that are token-identical to plain decoding have its law; plain decoding itself must show it.
    yield "autoregressive", battery.check_law
    yield "tree-recursive", battery.check_row_alone
    for name, make in FACTORIES.items():
        for check in battery.checks(make):
            if name not in BRIEF or check not in battery.ALWAYS:
                yield name, check


CASES = list(cases())


@pytest.mark.parametrize(
    ("name", "check"), CASES, ids=[f"{name}-{check.__name__[6:]}" for name, check in CASES]
)
def test_battery(name, check, request):
    if check is not battery.check_law:  # which runs long enough to be worth optimising
        request.getfixturevalue("quick_compilation")
    check(FACTORIES[name])
