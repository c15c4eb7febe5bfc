"""Beams: of all continuations of a prompt's hypotheses the best."""

from collections.abc import Callable, Mapping

from jaxdec import search
from jaxdec.catalogue.method import Method, Parts, Sample
from jaxdec.decoding import Decoder, Exactness
from jaxdec.model import Model, Params


def _row(
    name: str,
    title: str,
    paper: str,
    make: Callable[[Parts], Decoder],
    tests: str,
    exactness: Exactness = Exactness.HEURISTIC,
    benchmark: str = "hypotheses",
    sample: Sample | None = None,
    variants: Mapping[str, Sample] | None = None,
) -> Method:
    return Method(
        name,
        title,
        paper,
        exactness,
        make,
        tests,
        benchmark,
        searches=True,
        sample=sample,
        variants=variants or {},
    )


def _with_ngrams(target: Model, draft: Model) -> tuple[Decoder, Mapping[str, Params]]:
    texts = [[1, 2, 3, 1, 2, 4, 0, 5], [3, 3, 1, 2, 0, 0, 4]]
    return search.superposed(target, search.NGrams()), {"ngrams": search.ngram_store(texts, (2, 3))}


ROWS = [
    _row(
        "beams",
        "beam search: the most probable continuations, with the length penalty and the stops of transformers",
        "",
        lambda parts: search.beams(parts.target),
        "tests/search/test_beams.py",
    ),
    _row(
        "diverse-beams",
        "Diverse Beam Search: groups of beams that keep away from one another's tokens",
        "1610.02424",
        lambda parts: search.diverse_beams(parts.target),
        "tests/search/test_beams.py",
        sample=lambda target, draft: search.diverse_beams(target, groups=1),
    ),
    _row(
        "stochastic-beams",
        "Stochastic Beams: sequences drawn without replacement",
        "1903.06059",
        lambda parts: search.stochastic_beams(parts.target),
        "tests/search/test_stochastic_beams.py",
        Exactness.DISTRIBUTION_IDENTICAL,
    ),
    _row(
        "superposed",
        "Superposed Decoding: several drafts out of one stream of mixed embeddings",
        "2405.18400",
        lambda parts: search.superposed(parts.target),
        "tests/search/test_superposed.py",
        benchmark="search",
        variants={"with n-grams": _with_ngrams},
    ),
]
