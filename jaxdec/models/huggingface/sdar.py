"""SDAR: a Qwen3 that restores blocks one after the other, each position its own token."""

from collections.abc import Mapping
from typing import Any

from jaxdec.models.config import TransformerConfig
from jaxdec.models.huggingface.contract import Architecture, Fills
from jaxdec.models.huggingface.fields import like_llama, llama_fields, only
from jaxdec.models.huggingface.names import is_rotary_buffer
from jaxdec.models.huggingface.names import like_llama as names

MASK, BLOCK = 151669, 4
"""The mask token, and the size of a block, where the configuration names none."""


def config(fields: Mapping[str, Any]) -> TransformerConfig:
    """The configuration; what `fields` leaves out has the defaults of the type."""
    held = {"max_position_embeddings": 32768, "rope_theta": 1000000.0, "head_dim": 128, **fields}
    only(held, hidden_act="silu", attention_bias=False, use_sliding_window=False)
    return like_llama(held, qk_norm="head")


def fields(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `config`."""
    return llama_fields(
        config,
        model_type="sdar",
        architectures=["SDARForCausalLM"],
        attention_bias=False,
        use_sliding_window=False,
    )


def fills(fields: Mapping[str, Any]) -> Fills:
    """Blocks of a fixed size, counted from the start of the sequence."""
    mask = int(fields.get("mask_token_id") or MASK)
    return Fills("blocks", mask, int(fields.get("block_size") or BLOCK))


ARCHITECTURE = Architecture(
    "sdar", ("sdar",), config, fields, names, fills=fills, ignored=is_rotary_buffer
)
