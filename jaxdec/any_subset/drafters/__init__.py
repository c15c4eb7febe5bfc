"""Drafters for any-subset speculation (ASSD, 2504.20456)."""

from jaxdec.any_subset.drafters.any_subset_drafter import (
    AnySubsetDrafter,
    checked_width,
    upcoming,
)
from jaxdec.any_subset.drafters.context_ngram import ContextNgram, context_ngram
from jaxdec.any_subset.drafters.fused_draft import Answers, FusedDrafter, fused_draft
from jaxdec.any_subset.drafters.independent_positions import rank_tree_drafts
from jaxdec.any_subset.drafters.self_draft import SelfDrafter, self_draft

__all__ = [
    "Answers",
    "AnySubsetDrafter",
    "ContextNgram",
    "FusedDrafter",
    "SelfDrafter",
    "checked_width",
    "context_ngram",
    "fused_draft",
    "rank_tree_drafts",
    "self_draft",
    "upcoming",
]
