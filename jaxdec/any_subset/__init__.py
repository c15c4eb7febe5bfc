"""Any-subset decoding: fill any part of a sequence given any other, in a fixed order, from the exact joint."""

from jaxdec.any_subset.assd import assd, fused
from jaxdec.any_subset.density import log_prob
from jaxdec.any_subset.drafters import (
    ContextNgram,
    FusedDrafter,
    SelfDrafter,
    context_ngram,
    fused_draft,
    self_draft,
)
from jaxdec.any_subset.orders import fixed_order, lattice, lattice_ranks
from jaxdec.any_subset.parallel_sampling import ParallelSampling, parallel_sampling
from jaxdec.model import masked_rows, recomputed, two_stream

__all__ = [
    "ContextNgram",
    "FusedDrafter",
    "ParallelSampling",
    "SelfDrafter",
    "assd",
    "context_ngram",
    "fixed_order",
    "fused",
    "fused_draft",
    "lattice",
    "lattice_ranks",
    "log_prob",
    "masked_rows",
    "parallel_sampling",
    "recomputed",
    "self_draft",
    "two_stream",
]
