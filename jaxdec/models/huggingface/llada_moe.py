"""LLaDA-MoE: a mixture in the manner of OLMoE with norms of queries and keys a head, that restores masks.

Its checkpoints name the model type of LLaDA.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxdec.models.config import TransformerConfig
from jaxdec.models.huggingface.contract import Architecture, Fills
from jaxdec.models.huggingface.fields import like_llama, llama_fields, only, size
from jaxdec.models.huggingface.names import is_rotary_buffer
from jaxdec.models.huggingface.names import like_llama as names
from jaxdec.models.layers import Mixture

MASK = 156895
"""The mask token where the configuration names none."""


def config(fields: Mapping[str, Any]) -> TransformerConfig:
    """The configuration."""
    only(fields, hidden_act="silu", attention_bias=False, clip_qkv=None)
    only(fields, shared_expert_intermediate_size=None)
    hidden = fields.get("expert_intermediate_size") or size(fields, "intermediate_size")
    mixture = Mixture(
        experts=size(fields, "num_experts"),
        per_token=size(fields, "num_experts_per_tok"),
        hidden=int(hidden),
        normalised=bool(fields.get("norm_topk_prob", False)),
    )
    whole = {"intermediate_size": mixture.hidden, **fields}
    normed = "head" if fields.get("qk_layernorm", True) else None
    return dataclasses.replace(
        like_llama(whole, mixture=mixture, qk_norm=normed), hidden=mixture.hidden
    )


def fields(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `config`."""
    mixture = config.mixture
    if mixture is None:
        raise ValueError("llada_moe cannot store a network without a mixture")
    return llama_fields(
        config,
        model_type="llada",
        architectures=["LLaDAMoEModelLM"],
        attention_bias=False,
        qk_layernorm=config.qk_norm == "head",
        num_experts=mixture.experts,
        num_experts_per_tok=mixture.per_token,
        expert_intermediate_size=mixture.hidden,
        norm_topk_prob=mixture.normalised,
    )


def fills(fields: Mapping[str, Any]) -> Fills:
    """A canvas whose positions all see one another."""
    return Fills("canvas", int(fields.get("mask_token_id") or MASK))


ARCHITECTURE = Architecture(
    "llada_moe",
    ("llada", "lladamoe"),
    config,
    fields,
    names,
    fills=fills,
    ignored=is_rotary_buffer,
    reads=lambda fields: "num_experts" in fields,
)
