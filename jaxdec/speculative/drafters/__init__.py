"""Drafters: what is proposed."""

from jaxdec.speculative.drafters.eagle import EagleDrafter, eagle
from jaxdec.speculative.drafters.heads import HeadDrafter, heads
from jaxdec.speculative.drafters.input_copy import InputCopy, input_copy
from jaxdec.speculative.drafters.lookup_tree import LookupTree, lookup_tree
from jaxdec.speculative.drafters.model import ModelDrafter, model
from jaxdec.speculative.drafters.prompt_lookup import (
    PromptLookup,
    find_continuations,
    prompt_lookup,
)
from jaxdec.speculative.drafters.recycling import TokenRecycling, token_recycling
from jaxdec.speculative.drafters.trigrams import TrigramTree, trigram_tree

__all__ = [
    "EagleDrafter",
    "HeadDrafter",
    "InputCopy",
    "LookupTree",
    "ModelDrafter",
    "PromptLookup",
    "TokenRecycling",
    "TrigramTree",
    "eagle",
    "find_continuations",
    "heads",
    "input_copy",
    "lookup_tree",
    "model",
    "prompt_lookup",
    "token_recycling",
    "trigram_tree",
]
