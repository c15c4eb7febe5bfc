"""Qwen2 and Qwen2.5: a Llama with biases of queries, keys and values, and a window in its last layers if it is used."""

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
    "num_key_value_heads": 32,
    "sliding_window": 4096,
    "max_window_layers": 28,
}


def config(fields: Mapping[str, Any], **forms: Any) -> TransformerConfig:
    """The configuration; what `fields` leaves out has the defaults of the type.

    Args:
      fields: of a `config.json`. A window counts if `use_sliding_window` says so: in the layers that `layer_types`
        names, or from `max_window_layers` on.
      **forms: of kin that differ from Qwen2; they win.
    """
    held = {**DEFAULTS, **fields}
    only(held, hidden_act="silu")
    if not held.get("use_sliding_window", False):
        held["sliding_window"] = None
    layers, slides = size(held, "num_hidden_layers"), held["sliding_window"] is not None
    first = size(held, "max_window_layers") if slides else layers
    types = layer_types(held, [SLIDING if i >= first else FULL for i in range(layers)])
    turned = rotary(held, head_width(held))
    kinds = forms_of([LayerKind(window, turned) for window in windows(held, types)])
    return whole_heads(like_llama(held, **{"attention_bias": True, **kinds, **forms}))


def fields(config: TransformerConfig, **more: Any) -> dict[str, Any]:
    """The inverse of `config`."""
    held = [kind.window is not None for kind in kinds_of(config)]
    return llama_fields(
        config,
        **{
            "model_type": "qwen2",
            "architectures": ["Qwen2ForCausalLM"],
            "use_sliding_window": any(held),
            "max_window_layers": held.index(True) if any(held) else config.layers,
            **window_fields(config),
            **more,
        },
    )


ARCHITECTURE = Architecture(
    "qwen2", ("qwen2",), config, fields, names, ignored=is_rotary_buffer, prefix="model."
)
