"""Mistral: a Llama whose tokens see a window of the last ones; it has the same tensors."""

from collections.abc import Mapping
from typing import Any

from jaxdec.models.config import TransformerConfig
from jaxdec.models.huggingface.contract import Architecture
from jaxdec.models.huggingface.fields import (
    FULL,
    SLIDING,
    like_llama,
    llama_fields,
    only,
    size,
    whole_heads,
)
from jaxdec.models.huggingface.names import is_rotary_buffer
from jaxdec.models.huggingface.names import like_llama as names

DEFAULTS = {
    "max_position_embeddings": 131072,
    "num_key_value_heads": 8,
    "sliding_window": 4096,
}


def config(fields: Mapping[str, Any]) -> TransformerConfig:
    """The configuration; what `fields` leaves out has the defaults of the type, a window of null means none."""
    held = {**DEFAULTS, **fields}
    only(held, hidden_act="silu", attention_bias=False, mlp_bias=False)
    window = None if held["sliding_window"] is None else size(held, "sliding_window")
    kind = FULL if window is None else SLIDING
    if other := {*(held.get("layer_types") or ())} - {kind}:
        raise ValueError(
            f"layer_types with {min(other)!r} is not supported, only {kind} with sliding_window {window}"
        )
    return whole_heads(like_llama(held, window=window))


def fields(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `config`."""
    return llama_fields(
        config,
        model_type="mistral",
        architectures=["MistralForCausalLM"],
        sliding_window=config.window,
    )


ARCHITECTURE = Architecture(
    "mistral", ("mistral",), config, fields, names, ignored=is_rotary_buffer, prefix="model."
)
