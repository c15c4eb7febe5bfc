"""Plain decoding, and speculation: families of drafters by verifiers."""

import dataclasses
from collections.abc import Callable

from jaxdec.autoregressive import autoregressive
from jaxdec.catalogue.method import Method, Parts
from jaxdec.decoding import Decoder, Exactness
from jaxdec.model import Heads, Model
from jaxdec.speculative import Drafter, Growth, Verifier, drafters, growth, speculative, verifiers
from jaxdec.speculative.drafters import diffuspec
from jaxdec.speculative.tree import RankTree

VERIFIERS: dict[str, Callable[[], Verifier]] = {
    "walk": verifiers.SharedNoiseWalk,
    "token": verifiers.TokenRatio,
    "block": verifiers.BlockVerification,
    "recursive": verifiers.RecursiveRejection,
    "kseq": verifiers.KSeq,
    "typical": verifiers.TypicalAcceptance,
}
_LAWS = {  # what a title says, and the paper where it is not the family's own
    "walk": ("shared-noise walk", ""),
    "token": ("token ratio rule", "2211.17192"),
    "block": ("block verification", "2403.10444"),
    "recursive": ("recursive rejection", "2402.14160"),
    "kseq": ("K-SEQ", "2310.15141"),
    "typical": ("typical acceptance", "2401.10774"),
}
SIBLING_RATES = (0.69, 0.12, 0.06, 0.03, 0.02, 0.02)
"""How often the k-th best child of code-draft is the token of code-target: 9,915 places of held-out Python, temperature
0.8, shared noise. At temperature 0 the rates are the same within 0.01."""


@dataclasses.dataclass(frozen=True)
class Family:
    """Drafters that go with several verifiers.

    Attributes:
      name: of the methods; with another verifier than the walk, followed by a dash and the verifier.
      title: what drafts.
      paper: where that comes from.
      drafter: builds the drafter; raises `ValueError` for parts that are missing or impossible.
      verifiers: names in `VERIFIERS`.
      draft: the checkpoint that drafts unless another is named; empty if none does.
      tests: see `Method`.
      benchmarks: of the walk, and of the others.
    """

    name: str
    title: str
    paper: str
    drafter: Callable[[Parts], Drafter]
    verifiers: tuple[str, ...]
    draft: str = ""
    tests: str = "tests/conformance/test_decoders.py"
    benchmarks: tuple[str, str] = ("speculation", "speculation")

    def rows(self) -> list[Method]:
        """One method a verifier."""
        return [self._row(verifier) for verifier in self.verifiers]

    def _row(self, verifier: str) -> Method:
        rule, paper = _LAWS[verifier]
        papers = self.paper if paper in self.paper else f"{self.paper}, {paper}".strip(", ")
        walk = verifier == "walk"

        def make(parts: Parts) -> Decoder:
            return speculative(
                parts.target, drafter=self.drafter(parts), verifier=VERIFIERS[verifier]()
            )

        return Method(
            name=self.name if walk else f"{self.name}-{verifier}",
            title=f"{self.title}, {rule}",
            paper=papers,
            exactness=VERIFIERS[verifier]().exactness,
            make=make,
            tests=self.tests,
            benchmark=self.benchmarks[0 if walk else 1],
            draft=self.draft,
        )


def draft_model(parts: Parts) -> Model:
    """The small model of the parts.

    Raises:
      ValueError: if there is none.
    """
    if not isinstance(parts.draft, Model):
        got = "none" if parts.draft is None else "draft heads"
        raise ValueError(f"drafting with a model needs a draft model, got {got}")
    return parts.draft


def _heads(parts: Parts) -> Drafter:
    if not isinstance(parts.draft, Heads):
        got = "none" if parts.draft is None else "a model"
        raise ValueError(f"drafting with heads needs heads on the target, got {got}")
    return drafters.heads(parts.draft, growth=_likeliest(parts, parts.draft.heads))


def _eagle(parts: Parts) -> Drafter:
    return drafters.eagle(draft_model(parts), growth=_likeliest(parts, 8))


def _likeliest(parts: Parts, length: int) -> Growth:
    """The likeliest paths of at most `length` levels."""
    depth = length if parts.length is None else min(parts.length, length)
    nodes = 64 if parts.nodes is None else parts.nodes
    return growth.best_first(nodes, depth, siblings=min(8, parts.target.vocab_size))


def _grown(growth: Callable[[int, int], Growth], length: int = 8) -> Callable[[Parts], Drafter]:
    """Drafts with the small model; the rule is made from a depth and a number of nodes."""

    def make(parts: Parts) -> Drafter:
        depth = length if parts.length is None else parts.length
        nodes = 64 if parts.nodes is None else parts.nodes
        return drafters.model(draft_model(parts), growth=growth(depth, nodes))

    return make


def _branching(depth: int, nodes: int) -> RankTree:
    """4, 2 and 2 branches, then chains: 60 nodes at depth 5."""
    return RankTree.branching(((4, 2, 2) + (1,) * depth)[:depth], budget=nodes)


def _canvas(parts: Parts) -> Drafter:
    length = 16 if parts.length is None else parts.length
    shortest = min(4, length)
    return diffuspec(draft_model(parts), length=length, shortest=shortest, block=parts.block)


def _table(make: Callable[..., Drafter], depth: str = "depth") -> Callable[[Parts], Drafter]:
    """Drafts trees without a model; sizes that are not given are the drafter's own."""

    def drafter(parts: Parts) -> Drafter:
        given = {depth: parts.length, "nodes": parts.nodes}
        return make(parts.target, **{k: size for k, size in given.items() if size is not None})

    return drafter


def _length(parts: Parts) -> dict[str, int]:
    return {} if parts.length is None else {"length": parts.length}


TREES = ("walk", "recursive")
_FAMILIES = [
    Family(
        "draft",
        "draft-model speculation",
        "2211.17192, 2302.01318",
        lambda parts: drafters.model(draft_model(parts), length=parts.length),
        ("walk", "token", "block"),
        draft="code-draft",
        benchmarks=("pair", "tokens_per_forward"),
    ),
    Family(
        "specinfer",
        "SpecInfer: independent chains of a draft model",
        "2305.09781",
        _grown(lambda depth, nodes: growth.independent(max(nodes // depth, 1), depth)),
        ("recursive",),
        draft="code-draft",
    ),
    Family(
        "spectr",
        "SpecTr: independent chains of a draft model",
        "2310.15141",
        _grown(lambda depth, nodes: growth.independent(max(nodes // depth, 1), depth)),
        ("kseq",),
        draft="code-draft",
    ),
    Family(
        "rsd-c",
        "RSD-C: siblings without replacement, a fixed number at each depth",
        "2402.14160",
        _grown(lambda depth, nodes: growth.fixed(_branching(depth, nodes)), length=5),
        TREES,
        draft="code-draft",
    ),
    Family(
        "rsd-s",
        "RSD-S: a stochastic beam of a draft model",
        "2402.14160",
        _grown(lambda depth, nodes: growth.stochastic_beam(max(nodes // depth, 1), depth)),
        TREES,
        draft="code-draft",
    ),
    Family(
        "sequoia",
        "Sequoia: the fixed tree of most expected tokens",
        "2402.12374",
        _grown(lambda depth, nodes: growth.fixed(RankTree.best(depth, nodes, SIBLING_RATES))),
        TREES,
        draft="code-draft",
    ),
    Family(
        "mdsd",
        "MDSD: greedy siblings of a draft model, one drawn and the others the likeliest",
        "2502.18779",
        _grown(lambda depth, nodes: growth.greedy_siblings(_branching(depth, nodes)), length=5),
        ("recursive",),
        draft="code-draft",
    ),
    Family(
        "dyspec",
        "DySpec: a tree that grows where the draft model is sure",
        "2410.11744",
        _grown(lambda depth, nodes: growth.threshold(nodes, depth, siblings=8)),
        TREES,
        draft="code-draft",
    ),
    Family(
        "dynamic-tree",
        "the likeliest paths of a draft model, re-ranked",
        "2406.16858",
        _grown(lambda depth, nodes: growth.best_first(nodes, depth, width=6), length=12),
        TREES,
        draft="code-draft",
    ),
    Family(
        "lookup",
        "prompt lookup",
        "2205.10350",
        lambda parts: drafters.prompt_lookup(**_length(parts)),
        ("walk", "token", "block"),
        benchmarks=("pair", "tokens_per_forward"),
    ),
    Family(
        "lookup-tree",
        "prompt lookup with several continuations at once",
        "2205.10350",
        _table(lambda target, **sizes: drafters.lookup_tree(**sizes), depth="length"),
        TREES,
        tests="tests/speculative/test_lookup.py",
    ),
    Family(
        "input-copy",
        "input-guided aggressive decoding (IAD): a copy of the input",
        "2205.10350",
        lambda parts: drafters.input_copy(**_length(parts)),
        ("walk", "token"),
        tests="tests/speculative/test_lookup.py",
    ),
    Family(
        "recycling",
        "Token Recycling: what the target predicted after each token",
        "2408.08696",
        _table(drafters.token_recycling),
        TREES,
        tests="tests/speculative/test_recycling.py",
    ),
    Family(
        "trigrams",
        "ADED: the likeliest paths of trigrams that adapt to the text",
        "2407.12021",
        _table(drafters.trigram_tree),
        TREES,
        tests="tests/speculative/test_trigrams.py",
    ),
    Family(
        "jacobi",
        "Jacobi decoding: the target's answers to wrong guesses are the next guesses",
        "2305.10427",
        lambda parts: drafters.jacobi(parts.target, **_length(parts)),
        ("walk", "token"),
        tests="tests/speculative/test_jacobi.py",
    ),
    Family(
        "sjd",
        "speculative Jacobi decoding: guesses drawn from the target's last laws",
        "2410.01699",
        lambda parts: drafters.speculative_jacobi(parts.target, **_length(parts)),
        ("walk", "token"),
        tests="tests/speculative/test_jacobi.py",
    ),
    Family(
        "lookahead",
        "Lookahead: n-grams of Jacobi iterations on later positions",
        "2402.02057",
        lambda parts: drafters.lookahead(parts.target),
        TREES,
        tests="tests/speculative/test_lookahead.py",
    ),
    Family(
        "medusa",
        "Medusa: heads on the target",
        "2401.10774",
        _heads,
        (*TREES, "typical"),
        draft="code-medusa",
        tests="tests/speculative/test_head_drafters.py",
    ),
    Family(
        "hydra",
        "Hydra: heads on the target that read the path",
        "2402.05109",
        _heads,
        (*TREES, "typical"),
        draft="code-hydra",
        tests="tests/speculative/test_head_drafters.py",
    ),
    Family(
        "eagle",
        "EAGLE: a layer that extrapolates the target's features",
        "2401.15077, 2406.16858",
        _eagle,
        TREES,
        draft="code-eagle",
        tests="tests/speculative/test_head_drafters.py",
    ),
    Family(
        "diffuspec",
        "speculation with a masked model as the drafter",
        "2510.02358",
        _canvas,
        ("walk",),
        draft="code-block",
        tests="tests/diffusion/test_diffuspec.py",
        benchmarks=("diffusion", ""),
    ),
]
FAMILIES = ("autoregressive", *(family.name for family in _FAMILIES))

ROWS = [
    Method(
        name="autoregressive",
        title="plain decoding, one forward a token",
        paper="",
        exactness=Exactness.TOKEN_IDENTICAL,
        make=lambda parts: autoregressive(parts.target),
        tests="tests/conformance/test_decoders.py",
        benchmark="step_overhead",
    ),
    *(row for family in _FAMILIES for row in family.rows()),
]
