"""Sampling: the logits pipeline, and keys and noise addressed by row, purpose and place."""

from jaxdec.sampling.constraint import Constraint, StateTable
from jaxdec.sampling.history import History
from jaxdec.sampling.limits import as_array, is_traced, over_rows, shown
from jaxdec.sampling.noise import (
    Purpose,
    as_key,
    gumbel,
    key_at,
    perturbed_argmax,
    row_keys,
    uniform,
)
from jaxdec.sampling.text_before import TextBefore
from jaxdec.sampling.top import TopTokens, top_tokens
from jaxdec.sampling.warp import Warp

__all__ = [
    "Constraint",
    "History",
    "Purpose",
    "StateTable",
    "TextBefore",
    "TopTokens",
    "Warp",
    "as_array",
    "as_key",
    "gumbel",
    "is_traced",
    "key_at",
    "over_rows",
    "perturbed_argmax",
    "row_keys",
    "shown",
    "top_tokens",
    "uniform",
]
