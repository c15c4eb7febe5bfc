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


@pytest.mark.parametrize("name", FACTORIES)
def test_battery(name, quick_compilation):
    battery.check(FACTORIES[name], orders=True, checks=battery.PARTS)
