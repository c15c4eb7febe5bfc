"""Filters of the warp pipeline: which tokens of a law are kept.

Each takes log-probabilities `[B, ..., V]` in descending order, with -inf for tokens that earlier filters removed, and
a knob that broadcasts to them; it returns a keep mask.
"""

from jaxdec.sampling.filters.epsilon import epsilon
from jaxdec.sampling.filters.min_p import min_p
from jaxdec.sampling.filters.top_h import top_h
from jaxdec.sampling.filters.top_k import top_k
from jaxdec.sampling.filters.top_p import top_p
from jaxdec.sampling.filters.typical import typical

__all__ = [
    "epsilon",
    "min_p",
    "top_h",
    "top_k",
    "top_p",
    "typical",
]
