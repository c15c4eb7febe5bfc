"""LLaDA 2: blocks restored one after the other by a mixture with a sigmoid gate, groups of experts and a shared one.

model.word_embeddings.weight                            embed_tokens.embedding
model.layers.<i>.attention.query_key_value.weight       layers[i].self_attn.{q,k,v}_proj.kernel  (in one)
model.layers.<i>.attention.dense.weight                 layers[i].self_attn.o_proj.kernel
model.layers.<i>.attention.{query,key}_layernorm.weight layers[i].self_attn.{q,k}_norm.scale
model.layers.<i>.mlp.gate.{weight,expert_bias}          layers[i].mlp.gate.kernel, layers[i].mlp.gate_bias
model.layers.<i>.mlp.shared_experts.<name>.weight       layers[i].mlp.shared.<name>.kernel
"""

from collections.abc import Mapping
from typing import Any

from jaxdec.models.config import TransformerConfig
from jaxdec.models.huggingface.contract import Architecture, Fills, Path, Stored
from jaxdec.models.huggingface.fields import like_llama, llama_fields, only, size
from jaxdec.models.huggingface.names import is_rotary_buffer
from jaxdec.models.huggingface.names import like_llama as llama_names
from jaxdec.models.layers import Mixture

MASK, BLOCK = 156895, 32
"""The mask token, and the size of a block, where the configuration names none."""
RENAMED = {
    "embed_tokens": "word_embeddings",
    "self_attn": "attention",
    "o_proj": "dense",
    "q_norm": "query_layernorm",
    "k_norm": "key_layernorm",
    "shared": "shared_experts",
}
DEFAULTS = {
    "max_position_embeddings": 16384,
    "partial_rotary_factor": 0.5,
    "n_group": 8,
    "topk_group": 4,
    "routed_scaling_factor": 2.5,
    "num_shared_experts": 0,
    "first_k_dense_replace": 0,
}


def config(fields: Mapping[str, Any]) -> TransformerConfig:
    """The configuration; what `fields` leaves out has the defaults of the type."""
    held = {**DEFAULTS, **{name: x for name, x in fields.items() if x is not None}}
    only(held, hidden_act="silu", use_bias=False, use_qkv_bias=False, norm_head=False)
    only(held, use_sliding_window=False, score_function="sigmoid", norm_topk_prob=True)
    hidden = size(held, "moe_intermediate_size")
    mixture = Mixture(
        experts=size(held, "num_experts"),
        per_token=size(held, "num_experts_per_tok"),
        hidden=hidden,
        gate="sigmoid",
        normalised=True,
        scale=float(held["routed_scaling_factor"]),
        bias=True,
        groups=size(held, "n_group"),
        groups_kept=size(held, "topk_group"),
        shared_hidden=hidden * size(held, "num_shared_experts"),
        first=size(held, "first_k_dense_replace"),
    )
    normed = "head" if held.get("use_qk_norm", True) else None
    return like_llama(held, mixture=mixture, qk_norm=normed)


def fields(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `config`."""
    mixture = config.mixture
    if mixture is None:
        raise ValueError("llada2 cannot store a network without a mixture")
    rest = {} if config.rotary_width is not None else {"partial_rotary_factor": 1.0}
    return llama_fields(
        config,
        model_type="llada2_moe",
        architectures=["LLaDA2MoeModelLM"],
        use_bias=False,
        use_qkv_bias=False,
        use_qk_norm=config.qk_norm == "head",
        num_experts=mixture.experts,
        num_experts_per_tok=mixture.per_token,
        moe_intermediate_size=mixture.hidden,
        num_shared_experts=mixture.shared_hidden // mixture.hidden,
        routed_scaling_factor=mixture.scale,
        n_group=mixture.groups,
        topk_group=mixture.groups_kept,
        first_k_dense_replace=mixture.first,
        **rest,
    )


def names(path: Path, config: TransformerConfig) -> Stored | tuple[Stored, ...]:
    """Where a parameter is kept."""
    at = ".".join(("model", *path[:2]))
    if path[-2] in ("q_proj", "k_proj", "v_proj"):
        queries, keys = (n * config.head_dim for n in (config.heads, config.kv_heads))
        starts = {
            "q_proj": (0, queries),
            "k_proj": (queries, keys),
            "v_proj": (queries + keys, keys),
        }
        start, rows = starts[path[-2]]
        name = f"{at}.attention.query_key_value.weight"
        return Stored(name, transposed=True, part=(start, start + rows))
    if path[-1] == "gate_bias":
        return Stored(f"{at}.mlp.gate.expert_bias")
    return llama_names(path, config, renamed=RENAMED)


def fills(fields: Mapping[str, Any]) -> Fills:
    """Blocks of a fixed size, counted from the start of the sequence."""
    return Fills(
        "blocks",
        int(fields.get("mask_token_id") or MASK),
        int(fields.get("block_size") or fields.get("block_length") or BLOCK),
    )


ARCHITECTURE = Architecture(
    "llada2", ("llada2_moe",), config, fields, names, fills=fills, ignored=is_rotary_buffer
)
