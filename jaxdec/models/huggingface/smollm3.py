"""SmolLM3: a Llama in which every fourth layer, or those that it lists, has no positions."""

from collections.abc import Mapping
from typing import Any

from jaxdec.models.config import LayerKind, TransformerConfig
from jaxdec.models.huggingface.contract import Architecture
from jaxdec.models.huggingface.fields import (
    FULL,
    SLIDING,
    forms_of,
    head_width,
    kinds_of,
    layer_types,
    like_llama,
    llama_fields,
    only,
    rotary,
    size,
    whole_heads,
    window_fields,
    windows,
)
from jaxdec.models.huggingface.names import is_rotary_buffer
from jaxdec.models.huggingface.names import like_llama as names

DEFAULTS = {
    "max_position_embeddings": 32768,
    "num_key_value_heads": 4,
    "tie_word_embeddings": True,
    "no_rope_layer_interval": 4,
}
THETA = 2e6


def config(fields: Mapping[str, Any]) -> TransformerConfig:
    """The configuration; what `fields` leaves out has the defaults of the type.

    A layer is turned where `no_rope_layers` has a 1. If `use_sliding_window`, the layers without positions have a
    window, or those that `layer_types` names.
    """
    held = {**DEFAULTS, **fields}
    only(held, hidden_act="silu")
    layers, interval = size(held, "num_hidden_layers"), size(held, "no_rope_layer_interval")
    turned = held.get("no_rope_layers") or [int((i + 1) % interval != 0) for i in range(layers)]
    if len(turned) < layers:
        raise ValueError(f"no_rope_layers has {len(turned)} entries for {layers} layers")
    if not held.get("use_sliding_window", False):
        held["sliding_window"] = None
    slides = held.get("sliding_window") is not None
    types = layer_types(
        held, [SLIDING if slides and not turned[i] else FULL for i in range(layers)]
    )
    rope = rotary(held, head_width(held), theta=THETA)
    kinds = [
        LayerKind(window, rope if turns else None)
        for window, turns in zip(windows(held, types), turned, strict=False)
    ]
    bias = bool(held.get("attention_bias", False))
    return whole_heads(
        like_llama(
            held,
            attention_bias=bias,
            output_bias=bias,
            mlp_bias=bool(held.get("mlp_bias", False)),
            **forms_of(kinds),
        )
    )


def fields(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `config`."""
    kinds = kinds_of(config)
    return llama_fields(
        config,
        model_type="smollm3",
        architectures=["SmolLM3ForCausalLM"],
        attention_bias=config.attention_bias,
        mlp_bias=config.mlp_bias,
        no_rope_layers=[int(kind.rotary is not None) for kind in kinds],
        use_sliding_window=any(kind.window is not None for kind in kinds),
        **window_fields(config),
    )


ARCHITECTURE = Architecture(
    "smollm3", ("smollm3",), config, fields, names, ignored=is_rotary_buffer, prefix="model."
)
