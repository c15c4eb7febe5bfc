"""Dream and Dream-Coder: a Qwen2 that restores masks, its rows predicting one position ahead."""

from collections.abc import Mapping
from typing import Any

from jaxdec.model import canvas_model, shifted
from jaxdec.models.config import TransformerConfig
from jaxdec.models.huggingface.contract import Architecture, Fills
from jaxdec.models.huggingface.fields import like_llama, llama_fields, only
from jaxdec.models.huggingface.names import is_rotary_buffer
from jaxdec.models.huggingface.names import like_llama as names

MASK = 151666
"""The mask token where the configuration names none."""


def config(fields: Mapping[str, Any]) -> TransformerConfig:
    """The configuration; what `fields` leaves out has the defaults of the type."""
    held = {"max_position_embeddings": 131072, "rope_theta": 1000000.0, **fields}
    only(held, hidden_act="silu", use_sliding_window=False, use_mrope=False)
    return like_llama(held, attention_bias=bool(held.get("attention_bias", True)))


def fields(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `config`."""
    return llama_fields(
        config,
        model_type="Dream",
        architectures=["DreamModel"],
        attention_bias=config.attention_bias,
        use_sliding_window=False,
    )


def fills(fields: Mapping[str, Any]) -> Fills:
    """A canvas whose positions all see one another; a block is restored at once if the configuration names one."""
    mask = int(fields.get("mask_token_id") or MASK)
    wrap = lambda model: shifted(canvas_model(model, mask))
    return Fills("canvas", mask, wrap=wrap)


ARCHITECTURE = Architecture(
    "dream", ("Dream", "dream"), config, fields, names, fills=fills, ignored=is_rotary_buffer
)
