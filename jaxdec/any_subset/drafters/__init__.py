"""Drafters for any-subset speculation (ASSD, 2504.20456)."""

from jaxdec.any_subset.drafters.any_subset_drafter import AnySubsetDrafter
from jaxdec.any_subset.drafters.context_ngram import ContextNgram, context_ngram
from jaxdec.any_subset.drafters.fused_draft import Answers, FusedDrafter, fused_draft
from jaxdec.any_subset.drafters.self_draft import SelfDrafter, self_draft

__all__ = [
    "Answers",
    "AnySubsetDrafter",
    "ContextNgram",
    "FusedDrafter",
    "SelfDrafter",
    "context_ngram",
    "fused_draft",
    "self_draft",
]
