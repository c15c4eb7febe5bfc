"""Every decoding method by name: what the command line offers and what the documentation lists.

`python -m jaxdec.catalogue` prints the table of methods in Markdown.
"""

import dataclasses
from collections.abc import Callable

from jaxdec.any_subset import assd, fused, parallel_sampling
from jaxdec.autoregressive import autoregressive
from jaxdec.decoding import Decoder, Exactness
from jaxdec.diffusion import (
    Unmask,
    backtracking,
    caches,
    credit,
    denoise,
    diffuspec,
    prophet,
    schedules,
)
from jaxdec.diffusion import unmask as policies
from jaxdec.model import Model
from jaxdec.speculative import Verifier, adaptive, drafters, speculative, verifiers

VERIFIERS = {
    "walk": verifiers.SharedNoiseWalk,
    "token": verifiers.TokenRatio,
    "block": verifiers.BlockVerification,
}


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a decoder is made of.

    Attributes:
      target: the model whose law is decoded.
      draft: a smaller model of the same vocabulary, for the methods that draft with one.
      length: drafts a step, or branches of a canvas; None for the method's own.
      block: for a canvas, positions of a block; None for the whole canvas.
      causal: for a canvas, whether blocks see the blocks before them alone, counted from the start of the sequence.
      cache: for a canvas, a name of `CACHES`.
    """

    target: Model
    draft: Model | None = None
    length: int | None = None
    block: int | None = None
    causal: bool = False
    cache: str = "none"


@dataclasses.dataclass(frozen=True)
class Method:
    """A decoding method.

    Attributes:
      name: unique; a family, or a family and a verifier joined by a dash.
      title: one line on what it does.
      paper: where it comes from, empty for plain decoding.
      exactness: what it promises relative to plain decoding of the target.
      make: builds the decoder; raises `ValueError` for parts that are missing or impossible.
      tests: the test file that proves the promise, relative to the repository.
      benchmark: the name of its benchmark case, empty if it has none.
      infills: whether it fills any subset (`jaxdec.infill`) rather than continues a prompt.
      denoises: whether it decodes a canvas, for models that restore masked tokens.
    """

    name: str
    title: str
    paper: str
    exactness: Exactness
    make: Callable[[Parts], Decoder]
    tests: str
    benchmark: str
    infills: bool = False
    denoises: bool = False


CACHES = {
    "none": caches.none,
    "block": caches.block,
    "prefix": caches.prefix,
    "dual": caches.dual,
    "sub-block": caches.sub_block,
    "frozen": caches.frozen,
}
_CAUSAL = "the target is causal and cannot fill gaps"


def _with_draft_model(
    verifier: Callable[[], Verifier], *, infills: bool = False
) -> Callable[[Parts], Decoder]:
    def make(parts: Parts) -> Decoder:
        if infills and not parts.target.any_subset:
            raise ValueError(_CAUSAL)
        if parts.draft is None:
            raise ValueError("drafting with a model needs a draft model, got none")
        length = 6 if parts.length is None else parts.length
        drafter = drafters.model(parts.draft, length=length)
        return speculative(parts.target, drafter=drafter, verifier=verifier())

    return make


def _with_canvas(verifier: Callable[[], Verifier]) -> Callable[[Parts], Decoder]:
    def make(parts: Parts) -> Decoder:
        if parts.draft is None:
            raise ValueError("drafting with a model needs a draft model, got none")
        length = 16 if parts.length is None else parts.length
        drafter = diffuspec(parts.draft, length=length, shortest=min(4, length), block=parts.block)
        return speculative(parts.target, drafter=drafter, verifier=verifier())

    return make


def _with_lookup(verifier: Callable[[], Verifier]) -> Callable[[Parts], Decoder]:
    def make(parts: Parts) -> Decoder:
        length = 8 if parts.length is None else parts.length
        drafter = drafters.prompt_lookup(length=length)
        return speculative(parts.target, drafter=drafter, verifier=verifier())

    return make


def _any_subset(build: Callable[..., Decoder], **options) -> Callable[[Parts], Decoder]:
    def make(parts: Parts) -> Decoder:
        if not parts.target.any_subset:
            raise ValueError(_CAUSAL)
        width = {} if parts.length is None else {"width": parts.length}
        return build(parts.target, **width, **options)

    return make


def _adaptive_assd(model: Model, *, width: int = 8) -> Decoder:
    lengths = sorted({2, max(width // 2, 2), max(width, 2)})
    return adaptive(lambda length: assd(model, width=length), lengths)


_ASSD = "tests/any_subset/test_conformance.py"


def _infilling(
    name: str,
    title: str,
    make: Callable[[Parts], Decoder],
    exactness: Exactness = Exactness.TOKEN_IDENTICAL,
    paper: str = "2504.20456",
) -> Method:
    return Method(name, title, paper, exactness, make, _ASSD, "any_subset", infills=True)


def _denoising(
    name: str,
    title: str,
    paper: str,
    policy: Callable[[], Unmask],
    exactness: Exactness = Exactness.HEURISTIC,
    branches: int = 1,
    **options,
) -> Method:
    def make(parts: Parts) -> Decoder:
        sub_blocks = parts.cache == "sub-block"
        if parts.causal and parts.block is None:
            raise ValueError("a model of blocks needs the size of a block, got none")
        if sub_blocks and (parts.block is None or parts.block % 4):
            raise ValueError(f"sub-blocks are quarters of a block, got a block of {parts.block}")
        if parts.block is None:
            schedule = schedules.whole()
        else:
            size, within = (parts.block // 4, parts.block) if sub_blocks else (parts.block, None)
            schedule = schedules.blocks(size, within=within, from_start=parts.causal)
        return denoise(
            parts.target,
            unmask=policy(),
            schedule=schedule,
            cache=CACHES[parts.cache](),
            attention="causal" if parts.causal else "full",
            branches=branches if branches == 1 or parts.length is None else parts.length,
            **{key: value() for key, value in options.items()},
        )

    tests = "tests/diffusion/test_denoise_conformance.py"
    return Method(name, title, paper, exactness, make, tests, "diffusion", denoises=True)


METHODS = {
    method.name: method
    for method in [
        Method(
            name="autoregressive",
            title="plain decoding, one forward a token",
            paper="",
            exactness=Exactness.TOKEN_IDENTICAL,
            make=lambda parts: autoregressive(parts.target),
            tests="tests/conformance/test_decoders.py",
            benchmark="step_overhead",
        ),
        Method(
            name="draft",
            title="draft-model speculation, shared-noise walk",
            paper="2211.17192, 2302.01318",
            exactness=Exactness.TOKEN_IDENTICAL,
            make=_with_draft_model(verifiers.SharedNoiseWalk),
            tests="tests/conformance/test_decoders.py",
            benchmark="pair",
        ),
        Method(
            name="draft-token",
            title="draft-model speculation, token ratio rule",
            paper="2211.17192, 2302.01318",
            exactness=Exactness.DISTRIBUTION_IDENTICAL,
            make=_with_draft_model(verifiers.TokenRatio),
            tests="tests/conformance/test_decoders.py",
            benchmark="tokens_per_forward",
        ),
        Method(
            name="draft-block",
            title="draft-model speculation, block verification",
            paper="2403.10444",
            exactness=Exactness.DISTRIBUTION_IDENTICAL,
            make=_with_draft_model(verifiers.BlockVerification),
            tests="tests/conformance/test_decoders.py",
            benchmark="tokens_per_forward",
        ),
        Method(
            name="lookup",
            title="prompt lookup, shared-noise walk",
            paper="2205.10350",
            exactness=Exactness.TOKEN_IDENTICAL,
            make=_with_lookup(verifiers.SharedNoiseWalk),
            tests="tests/conformance/test_decoders.py",
            benchmark="pair",
        ),
        Method(
            name="lookup-token",
            title="prompt lookup, token ratio rule",
            paper="2205.10350, 2211.17192",
            exactness=Exactness.DISTRIBUTION_IDENTICAL,
            make=_with_lookup(verifiers.TokenRatio),
            tests="tests/conformance/test_decoders.py",
            benchmark="tokens_per_forward",
        ),
        Method(
            name="lookup-block",
            title="prompt lookup, block verification",
            paper="2205.10350, 2403.10444",
            exactness=Exactness.DISTRIBUTION_IDENTICAL,
            make=_with_lookup(verifiers.BlockVerification),
            tests="tests/conformance/test_decoders.py",
            benchmark="tokens_per_forward",
        ),
        Method(
            name="diffuspec",
            title="speculation with a masked model as the drafter, shared-noise walk",
            paper="2510.02358",
            exactness=Exactness.TOKEN_IDENTICAL,
            make=_with_canvas(verifiers.SharedNoiseWalk),
            tests="tests/diffusion/test_diffuspec.py",
            benchmark="diffusion",
        ),
        _infilling(
            "any-order",
            "sequential decoding in any fixed order, one forward a token",
            _any_subset(lambda model, width=1: autoregressive(model)),
        ),
        _infilling(
            "assd", "any-subset speculation, self-draft, shared-noise walk", _any_subset(assd)
        ),
        _infilling(
            "assd-token",
            "any-subset speculation, self-draft, token ratio rule",
            _any_subset(assd, verifier=verifiers.TokenRatio()),
            Exactness.DISTRIBUTION_IDENTICAL,
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
            _with_draft_model(verifiers.SharedNoiseWalk, infills=True),
            paper="2504.20456, 2211.17192",
        ),
        _infilling(
            "any-order-draft-token",
            "any-subset speculation with a small any-subset model, token ratio rule",
            _with_draft_model(verifiers.TokenRatio, infills=True),
            Exactness.DISTRIBUTION_IDENTICAL,
            paper="2504.20456, 2211.17192",
        ),
        _infilling(
            "parallel",
            "several tokens a forward, drawn as if independent",
            _any_subset(parallel_sampling),
            Exactness.APPROXIMATE,
            paper="",
        ),
        _denoising(
            "left-to-right",
            "canvas decoding, one token a forward from left to right",
            "",
            policies.left_to_right,
            Exactness.TOKEN_IDENTICAL,
        ),
        _denoising(
            "first-hitting",
            "canvas decoding, one token a forward in a random order",
            "2409.02908",
            policies.first_hitting,
            Exactness.APPROXIMATE,
        ),
        _denoising(
            "ancestral",
            "canvas decoding, each mask by its own coin",
            "2406.07524",
            policies.ancestral,
            Exactness.APPROXIMATE,
        ),
        _denoising(
            "llada",
            "canvas decoding, a quota of the most probable tokens",
            "2502.09992",
            lambda: policies.quota("max_prob"),
        ),
        _denoising(
            "dream",
            "canvas decoding, a quota of the tokens of least entropy",
            "2508.15487",
            lambda: policies.quota("entropy", spread="linear_time", position_temperature=0.0),
        ),
        _denoising(
            "threshold",
            "canvas decoding, all tokens above a probability",
            "2505.22618",
            policies.threshold,
        ),
        _denoising(
            "factor",
            "canvas decoding, as many tokens as their worst probability allows",
            "2505.22618",
            policies.factor,
        ),
        _denoising(
            "dynamic-threshold",
            "canvas decoding, a threshold or a quota",
            "2510.06303",
            lambda: policies.dynamic_threshold(by="max_prob"),
        ),
        _denoising(
            "entropy-bound",
            "canvas decoding, the surest tokens within a budget of entropy",
            "2510.06303",
            policies.entropy_bound,
        ),
        _denoising(
            "credit",
            "threshold decoding with credit for tokens that stay probable",
            "2510.06133",
            policies.threshold,
            fuse=credit,
        ),
        _denoising(
            "prophet",
            "one token a forward until the rest is sure enough to be committed at once",
            "2508.19982",
            lambda: policies.quota("max_prob"),
            stop=prophet,
        ),
        _denoising(
            "saber",
            "canvas decoding, adaptive acceleration with backtracking",
            "2510.18165",
            policies.saber,
            remask=backtracking,
        ),
        _denoising(
            "freedave",
            "one token a forward, the next steps guessed and verified along",
            "2510.00294",
            lambda: policies.quota("max_prob"),
            branches=4,
        ),
    ]
}

FAMILIES = ("autoregressive", "draft", "lookup", "diffuspec")
INFILLING = tuple(method.name for method in METHODS.values() if method.infills)
DENOISING = tuple(method.name for method in METHODS.values() if method.denoises)


def find(family: str, verifier: str = "walk") -> Method:
    """The method of a family with a verifier.

    Raises:
      ValueError: if there is no such method; the message lists those that exist.
    """
    name = family if verifier == "walk" else f"{family}-{verifier}"
    if name not in METHODS:
        raise ValueError(f"no method {name!r}; the methods are {', '.join(METHODS)}")
    return METHODS[name]


def markdown() -> str:
    """The table of methods."""
    lines = ["| method | exactness | tests | benchmark |", "|---|---|---|---|"]
    for method in METHODS.values():
        paper = f" ({method.paper})" if method.paper else ""
        benchmark = f"`{method.benchmark}`" if method.benchmark else "none"
        lines.append(
            f"| `{method.name}`: {method.title}{paper} | {method.exactness.value} "
            f"| `{method.tests}` | {benchmark} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
