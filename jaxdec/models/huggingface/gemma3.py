"""The text models of Gemma 3: norms on both sides of each branch, local layers with their own window and base."""

import functools
import math
from collections.abc import Mapping
from typing import Any

from jaxdec.models.config import LayerKind, TransformerConfig
from jaxdec.models.huggingface import names
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
    rope_fields,
    rotary,
    size,
    whole_heads,
    window_fields,
    windows,
)
from jaxdec.models.layers import Rotary

DEFAULTS = {
    "max_position_embeddings": 131072,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
    "sliding_window": 4096,
    "query_pre_attn_scalar": 256,
}
PERIOD = 6
"""Every so many layers one is global, unless `layer_types` or the pattern says otherwise."""
THETAS = {FULL: 1e6, SLIDING: 1e4}
RENAMED = {
    # Ours are named by the branch that they stand before or after.
    "attention_output_norm": "post_attention_layernorm",
    "post_attention_layernorm": "pre_feedforward_layernorm",
    "mlp_output_norm": "post_feedforward_layernorm",
}


def config(fields: Mapping[str, Any]) -> TransformerConfig:
    """The configuration; what `fields` leaves out has the defaults of the type.

    Frequencies stand in `rope_parameters` with a dict for each type of layer, or as `rope_theta` and `rope_scaling`
    for global and `rope_local_base_freq` for local layers.
    """
    held = {**DEFAULTS, **fields}
    only(
        held,
        hidden_activation="gelu_pytorch_tanh",
        attn_logit_softcapping=None,
        use_bidirectional_attention=False,
    )
    period = int(
        held.get("sliding_window_pattern") or held.get("_sliding_window_pattern") or PERIOD
    )
    pattern = [
        SLIDING if (i + 1) % period else FULL for i in range(size(held, "num_hidden_layers"))
    ]
    types, turned = layer_types(held, pattern), _rotary(held)
    kinds = [
        LayerKind(window, turned[kind])
        for window, kind in zip(windows(held, types), types, strict=True)
    ]
    bias, cap = bool(held.get("attention_bias", False)), held.get("final_logit_softcapping")
    return whole_heads(
        like_llama(
            held,
            norm_offset=1.0,
            placement="sandwich",
            qk_norm="head",
            activation="gelu_tanh",
            embedding_scale=math.sqrt(size(held, "hidden_size")),
            attention_scale=float(held["query_pre_attn_scalar"]) ** -0.5,
            logit_softcap=None if cap is None else float(cap),
            attention_bias=bias,
            output_bias=bias,
            **forms_of(kinds),
        )
    )


def _rotary(held: Mapping[str, Any]) -> dict[str, Rotary]:
    """Frequencies of each type of layer."""
    width, nested = head_width(held), held.get("rope_parameters") or {}
    if not {*nested} <= {*THETAS} or not all(isinstance(x or {}, Mapping) for x in nested.values()):
        raise ValueError(
            f"rope_parameters {nested!r} is not supported: it should have a dict for {FULL} and one for {SLIDING}"
        )
    local = {"rope_theta": held.get("rope_local_base_freq")}
    found = {}
    for kind, own in ((FULL, held), (SLIDING, local)):
        given = {**own, "rope_parameters": nested.get(kind)}
        found[kind] = rotary(
            {"max_position_embeddings": held["max_position_embeddings"], **given},
            width,
            theta=THETAS[kind],
        )
    return found


def fields(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `config`."""
    turned = dict(THETAS)
    ropes = {kind: rope_fields(Rotary(theta), config.head_dim) for kind, theta in turned.items()}
    for layer in reversed(kinds_of(config)):
        if layer.rotary is not None:
            kind = FULL if layer.window is None else SLIDING
            ropes[kind] = rope_fields(layer.rotary, config.head_dim)
    scaling = {key: value for key, value in ropes[FULL].items() if key != "rope_theta"}
    windows = window_fields(config)
    if windows["sliding_window"] is None:
        windows["sliding_window"] = DEFAULTS["sliding_window"]  # unused, and must not be null
    scale = config.attention_scale
    return llama_fields(
        config,
        model_type="gemma3_text",
        architectures=["Gemma3ForCausalLM"],
        hidden_activation="gelu_pytorch_tanh",
        hidden_act="gelu_pytorch_tanh",
        query_pre_attn_scalar=config.head_dim if scale is None else _exact(scale**-2),
        final_logit_softcapping=config.logit_softcap,
        attention_bias=config.attention_bias,
        rope_parameters=ropes,
        rope_theta=ropes[FULL]["rope_theta"],
        rope_local_base_freq=ropes[SLIDING]["rope_theta"],
        rope_scaling=None if scaling["rope_type"] == "default" else scaling,
        **windows,
    )


def _exact(x: float) -> float:
    """A whole number where rounding alone keeps it from being one."""
    return round(x) if math.isclose(x, round(x), rel_tol=1e-12) else x


ARCHITECTURE = Architecture(
    "gemma3",
    ("gemma3_text",),
    config,
    fields,
    functools.partial(names.like_llama, renamed=RENAMED),
    ignored=names.is_rotary_buffer,
    prefix="model.",
)
