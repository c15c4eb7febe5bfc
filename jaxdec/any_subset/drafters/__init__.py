"""Drafters for any-subset speculation (ASSD, 2504.20456)."""

from jaxdec.any_subset.drafters.context_ngram import ContextNgram, context_ngram
from jaxdec.any_subset.drafters.fused_draft import FusedDrafter, fused_draft
from jaxdec.any_subset.drafters.self_draft import SelfDrafter, self_draft

__all__ = [
    "ContextNgram",
    "FusedDrafter",
    "SelfDrafter",
    "context_ngram",
    "fused_draft",
    "self_draft",
]
