"""Drafters: what is proposed."""

from jaxdec.speculative.drafters.diffuspec import DiffuSpec, diffuspec
from jaxdec.speculative.drafters.eagle import EagleDrafter, eagle
from jaxdec.speculative.drafters.heads import HeadDrafter, heads
from jaxdec.speculative.drafters.input_copy import InputCopy, input_copy
from jaxdec.speculative.drafters.jacobi import Jacobi, jacobi, speculative_jacobi
from jaxdec.speculative.drafters.lookahead import Lookahead, lookahead
from jaxdec.speculative.drafters.lookup_tree import LookupTree, lookup_tree
from jaxdec.speculative.drafters.model import ModelDrafter, model
from jaxdec.speculative.drafters.prompt_lookup import (
    PromptLookup,
    find_continuations,
    prompt_lookup,
)
from jaxdec.speculative.drafters.token_recycling import TokenRecycling, token_recycling
from jaxdec.speculative.drafters.trigram_tree import TrigramTree, trigram_tree
from jaxdec.speculative.drafters.trimmed import frequent_tokens, trimmed

__all__ = [
    "DiffuSpec",
    "EagleDrafter",
    "HeadDrafter",
    "InputCopy",
    "Jacobi",
    "Lookahead",
    "LookupTree",
    "ModelDrafter",
    "PromptLookup",
    "TokenRecycling",
    "TrigramTree",
    "diffuspec",
    "eagle",
    "find_continuations",
    "frequent_tokens",
    "heads",
    "input_copy",
    "jacobi",
    "lookahead",
    "lookup_tree",
    "model",
    "prompt_lookup",
    "speculative_jacobi",
    "token_recycling",
    "trigram_tree",
    "trimmed",
]
