"""Drafters: what is proposed."""

from jaxdec.speculative.drafters.model import ModelDrafter, model
from jaxdec.speculative.drafters.prompt_lookup import (
    PromptLookup,
    find_continuation,
    prompt_lookup,
)

__all__ = ["ModelDrafter", "PromptLookup", "find_continuation", "model", "prompt_lookup"]
