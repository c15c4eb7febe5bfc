"""Llama 2 and 3, and checkpoints of the same kind (SmolLM2 ...)."""

from collections.abc import Mapping
from typing import Any

from jaxdec.models.config import TransformerConfig
from jaxdec.models.huggingface.contract import Architecture
from jaxdec.models.huggingface.fields import FULL, like_llama, llama_fields, only, whole_heads
from jaxdec.models.huggingface.names import is_rotary_buffer
from jaxdec.models.huggingface.names import like_llama as names


def config(fields: Mapping[str, Any]) -> TransformerConfig:
    """The configuration; what `fields` leaves out has the defaults of the type."""
    held = {"max_position_embeddings": 2048, **fields}
    if held.get("sliding_window") is not None:
        said = (
            "model_type 'llama' has"
            if "model_type" in fields
            else "model_type is missing, and Llama has"
        )
        raise ValueError(f"{said} no sliding_window, got {held['sliding_window']!r}; Mistral has")
    only(held, hidden_act="silu")
    if other := {*(held.get("layer_types") or ())} - {FULL}:
        raise ValueError(f"layer_types with {min(other)!r} is not supported, only {FULL}")
    bias = bool(held.get("attention_bias", False))
    return whole_heads(
        like_llama(
            held, attention_bias=bias, output_bias=bias, mlp_bias=bool(held.get("mlp_bias", False))
        )
    )


def fields(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `config`."""
    return llama_fields(
        config,
        model_type="llama",
        architectures=["LlamaForCausalLM"],
        attention_bias=config.attention_bias,
        mlp_bias=config.mlp_bias,
    )


ARCHITECTURE = Architecture(
    "llama", ("llama",), config, fields, names, ignored=is_rotary_buffer, prefix="model."
)
