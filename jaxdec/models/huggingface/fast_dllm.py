"""Fast-dLLM v2: a Qwen2 that restores blocks one after the other, its rows predicting one position ahead.

The law of a block's first token is the causal one, read off the last row of the finished block before. It is published
with sub-blocks of 8 within blocks of 32, `schedules.blocks(8, within=32, from_start=True)` and `refresh.sub_block()`,
and that token committed before the others, `unmask.first_alone`.
"""

from collections.abc import Mapping
from typing import Any

from jaxdec.model import canvas_model, shifted
from jaxdec.models.config import TransformerConfig
from jaxdec.models.huggingface.contract import Architecture, Fills
from jaxdec.models.huggingface.fields import like_llama, llama_fields, only
from jaxdec.models.huggingface.names import is_rotary_buffer
from jaxdec.models.huggingface.names import like_llama as names

MASK, BLOCK = 151665, 32
"""The mask token, and the size of a block, where the configuration names none."""


def config(fields: Mapping[str, Any]) -> TransformerConfig:
    """The configuration; what `fields` leaves out has the defaults of the type."""
    held = {"max_position_embeddings": 32768, "rope_theta": 1000000.0, **fields}
    only(held, hidden_act="silu", use_sliding_window=False)
    return like_llama(held, attention_bias=True)


def fields(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `config`."""
    return llama_fields(
        config,
        model_type="Fast_dLLM_Qwen",
        architectures=["Fast_dLLM_QwenForCausalLM"],
        use_sliding_window=False,
    )


def fills(fields: Mapping[str, Any]) -> Fills:
    """Blocks of a fixed size, counted from the start of the sequence."""
    mask = int(fields.get("mask_token_id") or MASK)
    wrap = lambda model: shifted(canvas_model(model, mask))
    return Fills("blocks", mask, int(fields.get("bd_size") or BLOCK), wrap)


ARCHITECTURE = Architecture(
    "fast_dllm", ("Fast_dLLM_Qwen",), config, fields, names, fills=fills, ignored=is_rotary_buffer
)
