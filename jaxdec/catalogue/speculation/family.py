"""Families of drafters, and the verifiers that judge what they draft: a method is one with one."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from jaxdec.catalogue.method import Method, Parts, Sample
from jaxdec.checkpoints import Checkpoint, load_heads
from jaxdec.decoding import Decoder
from jaxdec.model import Model, Params
from jaxdec.speculative import Drafter, Verifier, speculative, verifiers


@dataclasses.dataclass(frozen=True)
class Rule:
    """A verifier, as a row.

    Attributes:
      make: builds it.
      title: what the title of a method says of it.
      paper: where it comes from, if not from the drafters' own papers.
      weights: see `Method`.
      sample: such weights for the battery, for a size of the vocabulary.
      tests: see `Method`, if not the drafters' own; so the following.
      benchmark: see `Method`.
    """

    make: Callable[[], Verifier]
    title: str
    paper: str = ""
    weights: Callable[[Checkpoint], Mapping[str, Params]] | None = None
    sample: Callable[[int], Mapping[str, Params]] | None = None
    tests: str | None = None
    benchmark: str | None = None


def _neighbours(target: Checkpoint) -> Mapping[str, Params]:
    """The 8 tokens whose embeddings are nearest to that of each."""
    try:
        vectors = target.params["embed_tokens"]["embedding"]
    except (KeyError, TypeError) as error:
        raise ValueError(
            "near tokens are told by the target's embedding, `embed_tokens`, but its parameters have none"
        ) from error
    return {"neighbours": jnp.asarray(verifiers.nearest(vectors, min(8, len(vectors) - 1)))}


def _question(target: Checkpoint) -> Mapping[str, Params]:
    """A question in the words of the target's tokenizer."""
    if target.tokenizer is None:
        raise ValueError(
            f"{target.name!r} has no tokenizer for the question of reflective verification"
        )
    words = target.tokenizer.to_ids("\n# Is this right? Correct version:\n")
    return {"reflection": jnp.asarray(words, jnp.int32)}


JUDGES = {"code-target": "code-judge"}
"""The shipped judges of drafts, by their targets."""


def _judge(target: Checkpoint) -> Mapping[str, Params]:
    """The judge that was trained for a target."""
    if target.name not in JUDGES:
        raise ValueError(
            f"there is no judge of drafts for {target.name!r}, only for {', '.join(JUDGES)}"
        )
    head = load_heads(JUDGES[target.name]).params["down"]
    return {"judge": {"kernel": head["kernel"][:, 0], "bias": head["bias"][0]}}


def _alternating(vocab_size: int) -> Mapping[str, Params]:
    """A judge of states that are as wide as the vocabulary is."""
    return {"judge": {"kernel": (-1.0) ** jnp.arange(vocab_size), "bias": jnp.float32(0.5)}}


def _circle(vocab_size: int) -> Mapping[str, Params]:
    """Neighbours of tokens that lie on a circle."""
    return {"neighbours": (jnp.arange(vocab_size)[:, None] + jnp.array([1, 2])) % vocab_size}


_RELAXED: dict[str, Any] = dict(tests="tests/speculative/test_relaxed.py", benchmark="speculation")
RULES = {
    "walk": Rule(verifiers.SharedNoiseWalk, "shared-noise walk"),
    "token": Rule(verifiers.TokenRatio, "token ratio rule", "2211.17192"),
    "block": Rule(verifiers.BlockVerification, "block verification", "2403.10444"),
    "recursive": Rule(verifiers.RecursiveRejection, "recursive rejection", "2402.14160"),
    "kseq": Rule(verifiers.KSeq, "K-SEQ", "2310.15141"),
    "typical": Rule(verifiers.TypicalAcceptance, "typical acceptance", "2401.10774"),
    "mixed": Rule(verifiers.MixedTarget, "a target mixed with the drafter's law", **_RELAXED),
    "clusters": Rule(
        verifiers.ClusterRatio, "grouped acceptance (GSD)", "GSD, ICCV 2025", **_RELAXED
    ),
    "near": Rule(
        verifiers.NearTokens,
        "acceptance by near tokens (LANTERN)",
        "2410.03355, 2502.06352",
        _neighbours,
        _circle,
        **_RELAXED,
    ),
    "reflective": Rule(
        verifiers.Reflective,
        "reflective verification",
        "2505.18629",
        _question,
        lambda vocab_size: {"reflection": jnp.array([1, 2 % vocab_size])},
        **_RELAXED,
    ),
    "judge": Rule(
        verifiers.Judge,
        "judge decoding",
        "2501.19309",
        _judge,
        _alternating,
        tests="tests/speculative/test_judge.py",
        benchmark="speculation",
    ),
    "margin": Rule(verifiers.NearGreedy, "acceptance of nearly greedy drafts (GAD+)", "2205.10350"),
}
VERIFIERS: dict[str, Callable[[], Verifier]] = {name: rule.make for name, rule in RULES.items()}
TREES = ("walk", "recursive")
"""Verifiers that judge trees of any drafter."""

SampleDrafter = Callable[[Model, Model], Drafter | tuple[Drafter, Mapping[str, Params]]]
"""Builds a drafter, and the params of its parts, for the battery: see `jaxdec.testing.check`."""


@dataclasses.dataclass(frozen=True)
class Family:
    """Drafters that go with several verifiers.

    Attributes:
      name: of the methods; with another verifier than the walk, followed by a dash and the verifier.
      title: what drafts.
      paper: where that comes from.
      drafter: builds the drafter; raises `ValueError` for parts that are missing or impossible.
      verifiers: names in `RULES`.
      draft: the checkpoint that drafts unless another is named; empty if none does.
      heads: see `Method`.
      tests: see `Method`.
      benchmarks: of the walk, and of the others.
      sample: builds the drafter that the battery tests; the family's own, of `Parts.small`, if not given.
      variants: of the method with the walk; see `Method`.
      target: what is decoded, of the parts, by a model around their own.
      sample_target: the same of the oracle that the battery decodes, where there is a `sample`.
    """

    name: str
    title: str
    paper: str
    drafter: Callable[[Parts], Drafter]
    verifiers: tuple[str, ...]
    draft: str = ""
    heads: str = ""
    tests: str = "tests/conformance/test_methods.py"
    benchmarks: tuple[str, str] = ("speculation", "speculation")
    sample: SampleDrafter | None = None
    variants: Mapping[str, Sample] = dataclasses.field(default_factory=dict)
    target: Callable[[Parts], Model] = lambda parts: parts.target
    sample_target: Callable[[Model], Model] = lambda target: target

    def rows(self) -> list[Method]:
        """One method a verifier."""
        return [self._row(verifier) for verifier in self.verifiers]

    def _row(self, verifier: str) -> Method:
        rule = RULES[verifier]
        papers = self.paper
        if rule.paper not in papers:
            papers = f"{papers}, {rule.paper}".strip(", ")
        walk = verifier == "walk"

        def make(parts: Parts) -> Decoder:
            return speculative(
                self.target(parts), drafter=self.drafter(parts), verifier=rule.make()
            )

        def sample(target: Model, draft: Model) -> tuple[Decoder, Mapping[str, Params]]:
            own = {} if rule.sample is None else rule.sample(target.vocab_size)
            if self.sample is None:
                return make(Parts.small(target, draft)), own
            made = self.sample(target, draft)
            drafter, params = made if isinstance(made, tuple) else (made, {})
            decoder = speculative(self.sample_target(target), drafter=drafter, verifier=rule.make())
            return decoder, {**params, **own}

        return Method(
            name=self.name if walk else f"{self.name}-{verifier}",
            title=f"{self.title}, {rule.title}",
            paper=papers,
            exactness=rule.make().exactness,
            make=make,
            tests=rule.tests or self.tests,
            benchmark=self.benchmarks[not walk] if rule.benchmark is None else rule.benchmark,
            draft=self.draft,
            heads=self.heads,
            weights=rule.weights,
            sample=sample,
            variants=self.variants if walk else {},
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
