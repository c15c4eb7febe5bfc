"""Every decoding method by name: what the command line offers and what the documentation lists.

`python -m jaxdec.catalogue` prints the table of methods in Markdown.
"""

import dataclasses
from collections.abc import Callable

from jaxdec.autoregressive import autoregressive
from jaxdec.decoding import Decoder, Exactness
from jaxdec.model import Model
from jaxdec.speculative import Verifier, drafters, speculative, verifiers

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
      length: drafts a step; None for the method's own.
    """

    target: Model
    draft: Model | None = None
    length: int | None = None


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
    """

    name: str
    title: str
    paper: str
    exactness: Exactness
    make: Callable[[Parts], Decoder]
    tests: str
    benchmark: str


def _with_draft_model(verifier: Callable[[], Verifier]) -> Callable[[Parts], Decoder]:
    def make(parts: Parts) -> Decoder:
        if parts.draft is None:
            raise ValueError("drafting with a model needs a draft model, got none")
        length = 6 if parts.length is None else parts.length
        drafter = drafters.model(parts.draft, length=length)
        return speculative(parts.target, drafter=drafter, verifier=verifier())

    return make


def _with_lookup(verifier: Callable[[], Verifier]) -> Callable[[Parts], Decoder]:
    def make(parts: Parts) -> Decoder:
        length = 8 if parts.length is None else parts.length
        drafter = drafters.prompt_lookup(length=length)
        return speculative(parts.target, drafter=drafter, verifier=verifier())

    return make


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
    ]
}

FAMILIES = ("autoregressive", "draft", "lookup")


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
