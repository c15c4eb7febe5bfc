"""OLMoE: a mixture of experts in every layer, and norms of queries and keys over all heads at once."""

from collections.abc import Mapping
from typing import Any

from jaxdec.models.config import TransformerConfig
from jaxdec.models.huggingface.contract import Architecture
from jaxdec.models.huggingface.fields import like_llama, llama_fields, only, size, whole_heads
from jaxdec.models.huggingface.names import is_rotary_buffer
from jaxdec.models.huggingface.names import like_llama as names
from jaxdec.models.layers import Mixture

DEFAULTS = {
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "num_experts": 64,
    "num_experts_per_tok": 8,
}


def config(fields: Mapping[str, Any]) -> TransformerConfig:
    """The configuration; what `fields` leaves out has the defaults of the type."""
    held = {**DEFAULTS, **fields}
    only(held, hidden_act="silu", clip_qkv=None)
    if "num_local_experts" in held:  # another name of the same
        held["num_experts"] = held["num_local_experts"]
    mixture = Mixture(
        experts=size(held, "num_experts"),
        per_token=size(held, "num_experts_per_tok"),
        hidden=size(held, "intermediate_size"),
        normalised=bool(held.get("norm_topk_prob", False)),
    )
    bias = bool(held.get("attention_bias", False))
    return whole_heads(
        like_llama(held, qk_norm="whole", attention_bias=bias, output_bias=bias, mixture=mixture)
    )


def fields(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `config`."""
    mixture = config.mixture or Mixture(1, 1, config.hidden)
    return llama_fields(
        config,
        model_type="olmoe",
        architectures=["OlmoeForCausalLM"],
        attention_bias=config.attention_bias,
        clip_qkv=None,
        num_experts=mixture.experts,
        num_experts_per_tok=mixture.per_token,
        norm_topk_prob=mixture.normalised,
    )


ARCHITECTURE = Architecture(
    "olmoe", ("olmoe",), config, fields, names, ignored=is_rotary_buffer, prefix="model."
)
