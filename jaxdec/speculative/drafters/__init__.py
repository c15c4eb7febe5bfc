"""Drafters: what is proposed."""

from jaxdec.speculative.drafters.eagle import EagleDrafter, eagle
from jaxdec.speculative.drafters.heads import HeadDrafter, heads
from jaxdec.speculative.drafters.model import ModelDrafter, model
from jaxdec.speculative.drafters.prompt_lookup import (
    PromptLookup,
    find_continuation,
    prompt_lookup,
)

__all__ = [
    "EagleDrafter",
    "HeadDrafter",
    "ModelDrafter",
    "PromptLookup",
    "eagle",
    "find_continuation",
    "heads",
    "model",
    "prompt_lookup",
]
