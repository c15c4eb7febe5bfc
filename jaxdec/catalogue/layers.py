"""Plain decoding of networks that run some of their layers for each token."""

import dataclasses

from jaxdec.autoregressive import autoregressive
from jaxdec.catalogue.method import Method, Parts
from jaxdec.decoding import Decoder, Exactness
from jaxdec.model import Model, skip_decode

OVER = 512
"""Positions over which a network comes down to half of its layers."""


def _decoded(model: Model) -> Decoder:
    """Plain decoding, which is exact for this model, and not for the network that it was made of."""
    return dataclasses.replace(autoregressive(model), exactness=Exactness.HEURISTIC)


def _skipping(parts: Parts) -> Decoder:
    init = parts.target.init_cache
    layers = getattr(getattr(init, "config", None), "layers", 1)
    return _decoded(skip_decode(parts.target, least=max(layers // 2, 1), over=OVER))


ROWS = [
    Method(
        name="skip-decode",
        title="SkipDecode: fewer layers the later a token stands, of a network that was not tuned for it",
        paper="2307.02628",
        exactness=Exactness.HEURISTIC,
        make=_skipping,
        tests="tests/model/test_layer_choice.py",
        benchmark="",
        sample=lambda target, draft: _decoded(target),  # an oracle has no layers to pass by
    ),
]
