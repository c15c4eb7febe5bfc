"""Tiny-A2D: a Qwen2 or a Qwen3 that restores masks at their own places, on a whole canvas or block after block."""

from collections.abc import Mapping
from typing import Any

from jaxdec.models.config import TransformerConfig
from jaxdec.models.huggingface.contract import Architecture, Fills
from jaxdec.models.huggingface.fields import like_llama, llama_fields, only
from jaxdec.models.huggingface.names import is_rotary_buffer
from jaxdec.models.huggingface.names import like_llama as names


def config(fields: Mapping[str, Any]) -> TransformerConfig:
    """The configuration; what `fields` leaves out has the defaults of the type."""
    held = {"max_position_embeddings": 32768, **fields}
    only(held, hidden_act="silu", use_sliding_window=False)
    if held["model_type"] == "a2d-qwen2":
        return like_llama(held, attention_bias=True)
    only(held, attention_bias=False)
    return like_llama({"head_dim": 128, **held}, qk_norm="head")


def fields(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `config`."""
    kind = 2 if config.qk_norm is None else 3
    more = {} if kind == 2 else {"attention_bias": False}
    return llama_fields(
        config,
        model_type=f"a2d-qwen{kind}",
        architectures=[f"A2DQwen{kind}LMHeadModel"],
        use_sliding_window=False,
        **more,
    )


def fills(fields: Mapping[str, Any]) -> Fills:
    """A canvas whose positions all see one another, or blocks of the size that the configuration names.

    Raises:
      ValueError: if neither the configuration nor the tokenizer's files name the mask.
    """
    mask = fields.get("mask_token_id")
    if mask is None:
        raise ValueError("there is no mask_token_id, and no mask token in the tokenizer's files")
    block = fields.get("block_size")
    return Fills("canvas" if block is None else "blocks", int(mask), block and int(block))


ARCHITECTURE = Architecture(
    "a2d",
    ("a2d-qwen2", "a2d-qwen3"),
    config,
    fields,
    names,
    fills=fills,
    ignored=is_rotary_buffer,
)
