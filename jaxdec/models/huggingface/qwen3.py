"""Qwen3: a Qwen2 that norms queries and keys a head, without biases unless it says so."""

from collections.abc import Mapping
from typing import Any

from jaxdec.models.config import TransformerConfig
from jaxdec.models.huggingface import qwen2
from jaxdec.models.huggingface.contract import Architecture
from jaxdec.models.huggingface.names import is_rotary_buffer
from jaxdec.models.huggingface.names import like_llama as names


def config(fields: Mapping[str, Any]) -> TransformerConfig:
    """The configuration; what `fields` leaves out has the defaults of the type."""
    bias = bool(fields.get("attention_bias", False))
    return qwen2.config(
        {"head_dim": 128, **fields}, qk_norm="head", attention_bias=bias, output_bias=bias
    )


def fields(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `config`."""
    return qwen2.fields(
        config,
        model_type="qwen3",
        architectures=["Qwen3ForCausalLM"],
        attention_bias=config.attention_bias,
    )


ARCHITECTURE = Architecture(
    "qwen3", ("qwen3",), config, fields, names, ignored=is_rotary_buffer, prefix="model."
)
