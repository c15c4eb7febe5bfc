"""Methods that fill any subset of positions."""

import dataclasses
from collections.abc import Callable, Mapping

from jaxdec.any_subset import assd, fused, parallel_sampling
from jaxdec.autoregressive import autoregressive
from jaxdec.catalogue.method import Method, Parts, Sample
from jaxdec.catalogue.speculation.family import draft_model
from jaxdec.decoding import Decoder, Exactness
from jaxdec.model import Model
from jaxdec.speculative import Verifier, adaptive, drafters, speculative, verifiers


def _any_subset(build: Callable[..., Decoder], **options) -> Callable[[Parts], Decoder]:
    def make(parts: Parts) -> Decoder:
        if not parts.target.any_subset:
            raise ValueError("the target is causal and cannot fill gaps")
        width = {} if parts.length is None else {"width": parts.length}
        return build(parts.target, **width, **options)

    return make


def _adaptive_assd(model: Model, *, width: int = 8) -> Decoder:
    lengths = sorted({2, max(width // 2, 2), max(width, 2)})
    return adaptive(lambda length: assd(model, width=length), lengths)


_ASSD = "tests/conformance/test_methods.py"


def _infilling(
    name: str,
    title: str,
    make: Callable[[Parts], Decoder],
    exactness: Exactness = Exactness.TOKEN_IDENTICAL,
    paper: str = "2504.20456",
    draft: str = "",
    variants: Mapping[str, Sample] | None = None,
) -> Method:
    return Method(
        name,
        title,
        paper,
        exactness,
        make,
        _ASSD,
        "any_subset",
        draft,
        infills=True,
        variants=variants or {},
    )


def _small_model(verifier: Verifier) -> Callable[[Parts], Decoder]:
    def make(parts: Parts) -> Decoder:
        drafter = drafters.model(draft_model(parts), length=parts.length)
        return _any_subset(lambda model: speculative(model, drafter=drafter, verifier=verifier))(
            dataclasses.replace(parts, length=None)
        )

    return make


ROWS = [
    _infilling(
        "any-order",
        "sequential decoding in any fixed order, one forward a token",
        _any_subset(lambda model, width=1: autoregressive(model)),
    ),
    _infilling("assd", "any-subset speculation, self-draft, shared-noise walk", _any_subset(assd)),
    _infilling(
        "assd-token",
        "any-subset speculation, self-draft, token ratio rule",
        _any_subset(assd, verifier=verifiers.TokenRatio()),
        Exactness.DISTRIBUTION_IDENTICAL,
        variants={
            "no bonus": lambda target, draft: assd(
                target, width=3, verifier=verifiers.TokenRatio(), bonus=False
            ),
            "lengths that adapt": lambda target, draft: adaptive(
                lambda length: assd(target, width=length, verifier=verifiers.TokenRatio()), (2, 4)
            ),
        },
    ),
    _infilling(
        "assd-adaptive",
        "any-subset speculation, self-draft, draft length from the acceptance",
        _any_subset(_adaptive_assd),
    ),
    _infilling(
        "assd-ngram",
        "any-subset speculation, context bigrams, shared-noise walk",
        _any_subset(assd, draft="ngram"),
    ),
    _infilling(
        "assd-ngram-token",
        "any-subset speculation, context bigrams, token ratio rule",
        _any_subset(assd, draft="ngram", verifier=verifiers.TokenRatio()),
        Exactness.DISTRIBUTION_IDENTICAL,
    ),
    _infilling(
        "fused",
        "any-subset speculation in one forward a step, shared-noise walk",
        _any_subset(fused),
        variants={
            "a tree": lambda target, draft: fused(target, width=3, nodes=6, outcomes=4),
        },
    ),
    _infilling(
        "fused-token",
        "any-subset speculation in one forward a step, token ratio rule",
        _any_subset(fused, verifier=verifiers.TokenRatio()),
        Exactness.DISTRIBUTION_IDENTICAL,
    ),
    _infilling(
        "any-order-draft",
        "any-subset speculation with a small any-subset model, shared-noise walk",
        _small_model(verifiers.SharedNoiseWalk()),
        paper="2504.20456, 2211.17192",
        draft="code-infill-draft",
    ),
    _infilling(
        "any-order-draft-token",
        "any-subset speculation with a small any-subset model, token ratio rule",
        _small_model(verifiers.TokenRatio()),
        Exactness.DISTRIBUTION_IDENTICAL,
        paper="2504.20456, 2211.17192",
        draft="code-infill-draft",
    ),
    _infilling(
        "parallel",
        "several tokens a forward, drawn as if independent",
        _any_subset(parallel_sampling),
        Exactness.APPROXIMATE,
        paper="",
    ),
]
