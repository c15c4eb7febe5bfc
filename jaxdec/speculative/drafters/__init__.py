"""Drafters: what is proposed."""

from jaxdec.speculative.drafters.causal import CausalDrafter
from jaxdec.speculative.drafters.diffuspec import DiffuSpec, DraftLength, diffuspec
from jaxdec.speculative.drafters.eagle import EagleDrafter, Pairs, eagle
from jaxdec.speculative.drafters.grown import Grown, GrownParams
from jaxdec.speculative.drafters.heads import HeadDrafter, LastHidden, heads
from jaxdec.speculative.drafters.input_copy import Anchor, InputCopy, input_copy
from jaxdec.speculative.drafters.jacobi import Jacobi, JacobiWindow, jacobi
from jaxdec.speculative.drafters.lookahead import Grid, Lookahead, Pool, lookahead
from jaxdec.speculative.drafters.lookup_tree import LookupTree, lookup_tree, merge_chains
from jaxdec.speculative.drafters.model import ModelDrafter, model
from jaxdec.speculative.drafters.prompt_lookup import (
    PromptLookup,
    find_continuations,
    prompt_lookup,
)
from jaxdec.speculative.drafters.speculative_jacobi import SpeculativeJacobi, speculative_jacobi
from jaxdec.speculative.drafters.token_recycling import (
    Successors,
    TokenRecycling,
    token_recycling,
)
from jaxdec.speculative.drafters.trigram_tree import Trigrams, TrigramTree, trigram_tree
from jaxdec.speculative.drafters.trimmed import frequent_tokens, trimmed

__all__ = [
    "Anchor",
    "CausalDrafter",
    "DiffuSpec",
    "DraftLength",
    "EagleDrafter",
    "Grid",
    "Grown",
    "GrownParams",
    "HeadDrafter",
    "InputCopy",
    "Jacobi",
    "JacobiWindow",
    "LastHidden",
    "Lookahead",
    "LookupTree",
    "ModelDrafter",
    "Pairs",
    "Pool",
    "PromptLookup",
    "SpeculativeJacobi",
    "Successors",
    "TokenRecycling",
    "TrigramTree",
    "Trigrams",
    "diffuspec",
    "eagle",
    "find_continuations",
    "frequent_tokens",
    "heads",
    "input_copy",
    "jacobi",
    "lookahead",
    "lookup_tree",
    "merge_chains",
    "model",
    "prompt_lookup",
    "speculative_jacobi",
    "token_recycling",
    "trigram_tree",
    "trimmed",
]
