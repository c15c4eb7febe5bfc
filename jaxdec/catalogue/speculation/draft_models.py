"""Speculation with a small model: chains, and trees by every rule of growth."""

from collections.abc import Callable, Mapping

from jaxdec.catalogue.method import Parts
from jaxdec.catalogue.speculation.family import TREES, Family, draft_model
from jaxdec.decoding import Decoder
from jaxdec.model import Model, Params
from jaxdec.speculative import (
    Drafter,
    Growth,
    LoadCosts,
    adaptive,
    drafters,
    growth,
    lengths,
    speculative,
)
from jaxdec.speculative.tree import RankTree

SIBLING_RATES = (0.69, 0.12, 0.06, 0.03, 0.02, 0.02)
"""How often the k-th best child of code-draft is the token of code-target: 9,915 places of held-out Python, temperature
0.8, shared noise. At temperature 0 the rates are the same within 0.01."""

UNEQUAL = RankTree.of((-1, -1, 0, 0, 1, 2, 2, -1))
"""A tree whose nodes have children of unequal number, for the battery."""


def _grown(
    growth: Callable[[int, int, int], Growth], length: int = 8
) -> Callable[[Parts], Drafter]:
    """Drafts with the small model; the rule is made from a depth, a number of nodes and the size of the vocabulary."""

    def make(parts: Parts) -> Drafter:
        depth = length if parts.length is None else parts.length
        nodes = 64 if parts.nodes is None else parts.nodes
        return drafters.model(
            draft_model(parts), growth=growth(depth, nodes, parts.target.vocab_size)
        )

    return make


def _branching(depth: int, nodes: int) -> RankTree:
    """4, 2 and 2 branches, then chains: 60 nodes at depth 5."""
    return RankTree.branching(((4, 2, 2) + (1,) * depth)[:depth], budget=nodes)


def _by_load(target: Model, draft: Model) -> tuple[Decoder, Mapping[str, Params]]:
    """Drafts for the battery that become fewer, and at last none, the more of its rows run."""
    seconds = [[1.0, 1.0, 1.0], [1.0, 1.4, 9.0], [1.0, 9.0, 9.0]]
    costs = LoadCosts.of(seconds, (1, 6, 10), (0, 1, 3), slots=64)
    decoder = adaptive(
        lambda length: speculative(target, drafter=drafters.model(draft, length=length)),
        costs.lengths,
        rule=lengths.by_load(),
    )
    return decoder, {"load": costs}


FAMILIES = [
    Family(
        "draft",
        "draft-model speculation",
        "2211.17192, 2302.01318",
        lambda parts: drafters.model(draft_model(parts), length=parts.length),
        ("walk", "token", "block", "mixed", "judge"),
        draft="code-draft",
        benchmarks=("pair", "tokens_per_forward"),
        variants={
            "one draft": lambda target, draft: speculative(
                target, drafter=drafters.model(draft, length=1)
            ),
            "lengths that adapt": lambda target, draft: adaptive(
                lambda length: speculative(target, drafter=drafters.model(draft, length=length)),
                (1, 4),
            ),
            "lengths by load": _by_load,
            "a trimmed vocabulary": lambda target, draft: speculative(
                target,
                drafter=drafters.trimmed(
                    drafters.model(draft, length=3), (0, 1, target.vocab_size - 1)
                ),
            ),
        },
    ),
    Family(
        "specinfer",
        "SpecInfer: independent chains of a draft model",
        "2305.09781",
        _grown(lambda depth, nodes, _: growth.independent(max(nodes // depth, 1), depth)),
        ("recursive",),
        draft="code-draft",
    ),
    Family(
        "spectr",
        "SpecTr: independent chains of a draft model",
        "2310.15141",
        _grown(lambda depth, nodes, _: growth.independent(max(nodes // depth, 1), depth)),
        ("kseq",),
        draft="code-draft",
    ),
    Family(
        "rsd-c",
        "RSD-C: siblings without replacement, a fixed number at each depth",
        "2402.14160",
        _grown(lambda depth, nodes, _: growth.fixed(_branching(depth, nodes)), length=5),
        TREES,
        draft="code-draft",
        sample=lambda target, draft: drafters.model(draft, growth=growth.fixed(UNEQUAL)),
    ),
    Family(
        "rsd-s",
        "RSD-S: a stochastic beam of a draft model",
        "2402.14160",
        _grown(lambda depth, nodes, _: growth.stochastic_beam(max(nodes // depth, 1), depth)),
        TREES,
        draft="code-draft",
    ),
    Family(
        "sequoia",
        "Sequoia: the fixed tree of most expected tokens",
        "2402.12374",
        _grown(
            lambda depth, nodes, vocab_size: growth.fixed(
                RankTree.best(depth, nodes, SIBLING_RATES[:vocab_size])
            )
        ),
        TREES,
        draft="code-draft",
    ),
    Family(
        "mdsd",
        "MDSD: greedy siblings of a draft model, one drawn and the others the likeliest",
        "2502.18779",
        _grown(lambda depth, nodes, _: growth.greedy_siblings(_branching(depth, nodes)), length=5),
        ("recursive",),
        draft="code-draft",
        sample=lambda target, draft: drafters.model(
            draft, growth=growth.greedy_siblings(RankTree.branching((3, 1)))
        ),
    ),
    Family(
        "dyspec",
        "DySpec: a tree that grows where the draft model is sure",
        "2410.11744",
        _grown(
            lambda depth, nodes, vocab_size: growth.threshold(
                nodes, depth, siblings=min(8, vocab_size)
            )
        ),
        TREES,
        draft="code-draft",
    ),
    Family(
        "dynamic-tree",
        "the likeliest paths of a draft model, re-ranked",
        "2406.16858",
        _grown(
            lambda depth, nodes, vocab_size: growth.best_first(
                nodes, depth, width=6, siblings=min(8, vocab_size)
            ),
            length=12,
        ),
        TREES,
        draft="code-draft",
    ),
]
