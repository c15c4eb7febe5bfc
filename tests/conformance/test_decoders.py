"""Every decoder passes the battery that its declaration implies."""

import pytest

import jaxdec
from jaxdec import growth
from jaxdec.speculative import RankTree
from jaxdec.testing import battery

VERIFIERS = {
    "walk": jaxdec.verifiers.SharedNoiseWalk(),
    "token": jaxdec.verifiers.TokenRatio(),
    "block": jaxdec.verifiers.BlockVerification(),
    "recursive": jaxdec.verifiers.RecursiveRejection(),
    "kseq": jaxdec.verifiers.KSeq(),
}
CHAIN_VERIFIERS = ("walk", "token", "block")
DRAFTERS = {
    "draft": lambda draft: jaxdec.drafters.model(draft, length=4),
    "lookup": lambda draft: jaxdec.drafters.prompt_lookup(length=5, max_ngram=3),
}


def speculative(drafter, verifier):
    return lambda target, draft: jaxdec.speculative(
        target, drafter=DRAFTERS[drafter](draft), verifier=VERIFIERS[verifier]
    )


# Drafters without a model: what they draft is the matter of `tests/speculative`.
MODEL_FREE = {
    "recycling": lambda target: jaxdec.drafters.token_recycling(
        target, depth=3, nodes=8, rates=(0.5, 0.2, 0.1)
    ),
    "lookup tree": lambda target: jaxdec.drafters.lookup_tree(length=3, nodes=7, matches=4),
    "input copy": lambda target: jaxdec.drafters.input_copy(length=4, max_ngram=3),
    "trigrams": lambda target: jaxdec.drafters.trigram_tree(target, depth=3, nodes=7, slots=3),
    "jacobi": lambda target: jaxdec.drafters.jacobi(target, length=4),
    "sjd": lambda target: jaxdec.drafters.speculative_jacobi(target, length=4),
    "lookahead": lambda target: jaxdec.drafters.lookahead(target, ngram=3, columns=3, guesses=2),
}


def model_free(drafter, verifier="walk"):
    return lambda target, draft: jaxdec.speculative(
        target, drafter=MODEL_FREE[drafter](target), verifier=VERIFIERS[verifier]
    )


# One rule is tested in full; of the others, what their verifier promises. Nodes have children of unequal number.
GROWTHS = {
    "fixed": growth.fixed(RankTree.of((-1, -1, 0, 0, 1, 2, 2, -1))),
    "beam": growth.stochastic_beam(3, 3),
    "threshold": growth.threshold(7, 3, width=2, siblings=2, least=0.05),
    "best first": growth.best_first(6, 3, width=2, siblings=3),
    "independent": growth.independent(3, 2),
    "greedy siblings": growth.greedy_siblings(RankTree.branching((3, 1))),
}


def grown(growth, verifier):
    return lambda target, draft: jaxdec.speculative(
        target,
        drafter=jaxdec.drafters.model(draft, growth=GROWTHS[growth]),
        verifier=VERIFIERS[verifier],
    )


# Chosen trees are one-hot to this verifier, as those of "best first" are: the others of their kind run apart.
CHOSEN = {
    f"{drafter}-{verifier}": model_free(drafter, verifier)
    for drafter, verifier in [
        ("recycling", "recursive"),
        ("lookup tree", "recursive"),
        ("trigrams", "recursive"),
        ("lookahead", "recursive"),
        ("jacobi", "token"),
    ]
}
FACTORIES = {
    "autoregressive": lambda target, draft: jaxdec.autoregressive(target),
    **{f"{d}-{v}": speculative(d, v) for d in DRAFTERS for v in CHAIN_VERIFIERS},
    "one draft-walk": lambda target, draft: jaxdec.speculative(
        target, drafter=jaxdec.drafters.model(draft, length=1)
    ),
    "adaptive-walk": lambda target, draft: jaxdec.adaptive(
        lambda length: jaxdec.speculative(
            target, drafter=jaxdec.drafters.model(draft, length=length)
        ),
        (1, 4),
    ),
    **{f"{growth}-{v}": grown(growth, v) for growth in GROWTHS for v in ("walk", "recursive")},
    "independent-kseq": grown("independent", "kseq"),
    "trimmed-walk": lambda target, draft: jaxdec.speculative(
        target,
        drafter=jaxdec.drafters.trimmed(jaxdec.drafters.model(draft, length=3), (0, 1, 2, 5)),
    ),
    **{f"{drafter}-walk": model_free(drafter) for drafter in MODEL_FREE},
    "input copy-token": model_free("input copy", "token"),
    "sjd-token": model_free("sjd", "token"),
    **CHOSEN,
}


@pytest.mark.parametrize("name", FACTORIES)
def test_battery(name, quick_compilation):
    battery.check(FACTORIES[name], checks=battery.PARTS)
