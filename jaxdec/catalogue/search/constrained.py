"""Constrained tokens with weights, for populations or alone."""

from jaxdec import search
from jaxdec.catalogue.method import Method, Parts
from jaxdec.decoding import Decoder, Exactness


def _awrs(parts: Parts) -> Decoder:
    return search.awrs(parts.target)


ROWS = [
    Method(
        "awrs",
        "adaptive weighted rejection sampling: constrained tokens with unbiased weights",
        "2504.05410",
        Exactness.APPROXIMATE,
        _awrs,
        "tests/search/test_awrs.py",
        "constraints",
        sample=lambda target, draft: search.awrs(target, max_rejects=4),
        variants={
            "of more draws": lambda target, draft: search.awrs(
                target, max_rejects=3, max_accepts=3
            ),
        },
    ),
]
