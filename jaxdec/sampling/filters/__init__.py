"""Filters of the warp pipeline: which tokens of a law are kept. One file a filter, and one table of them all."""

from jaxdec.sampling.filters.contract import Filter
from jaxdec.sampling.filters.epsilon import EPSILON, epsilon
from jaxdec.sampling.filters.kept import kept_by
from jaxdec.sampling.filters.min_p import MIN_P, min_p
from jaxdec.sampling.filters.top_h import TOP_H, top_h
from jaxdec.sampling.filters.top_k import TOP_K, top_k
from jaxdec.sampling.filters.top_p import TOP_P, top_p
from jaxdec.sampling.filters.typical import TYPICAL, typical

FILTERS = (TOP_K, TOP_P, MIN_P, TYPICAL, EPSILON, TOP_H)
"""In the order in which they apply: each reads the law renormalised after those before it."""

__all__ = ["FILTERS", "Filter", "epsilon", "kept_by", "min_p", "top_h", "top_k", "top_p", "typical"]
