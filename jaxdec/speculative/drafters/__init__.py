"""Drafters: what is proposed."""

from jaxdec.speculative.drafters.model import ModelDrafter, model
from jaxdec.speculative.drafters.prompt_lookup import (
    PromptLookup,
    find_continuation,
    prompt_lookup,
)
from jaxdec.speculative.drafters.recycling import TokenRecycling, token_recycling

__all__ = [
    "ModelDrafter",
    "PromptLookup",
    "TokenRecycling",
    "find_continuation",
    "model",
    "prompt_lookup",
    "token_recycling",
]
