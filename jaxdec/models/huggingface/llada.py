"""LLaDA: a Llama that restores masks, all positions seeing one another, with tensors named as in OLMo.

model.transformer.wte.weight                  embed_tokens.embedding
model.transformer.blocks.<i>.ff_proj.weight   layers[i].mlp.gate_proj.kernel     (transposed; so are all kernels)
model.transformer.ln_f.weight                 norm.scale
model.transformer.ff_out.weight               lm_head.kernel                     (untied only)
"""

from collections.abc import Mapping
from typing import Any

from jaxdec.models.config import TransformerConfig
from jaxdec.models.huggingface.contract import Architecture, Fills, Path, Stored
from jaxdec.models.huggingface.fields import only, rope_fields, rotary, size
from jaxdec.models.huggingface.names import LEAVES
from jaxdec.models.layers import Rotary

MASK = 126336
"""The mask token where the configuration names none."""
RENAMED = {
    "layers": "blocks",
    "self_attn": "",
    "mlp": "",
    "o_proj": "attn_out",
    "gate_proj": "ff_proj",
    "down_proj": "ff_out",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ff_norm",
    "embed_tokens": "wte",
    "norm": "ln_f",
    "lm_head": "ff_out",
}


def config(fields: Mapping[str, Any]) -> TransformerConfig:
    """The configuration."""
    only(
        fields,
        activation_type="silu",
        block_type="llama",
        layer_norm_type="rms",
        attention_layer_norm=False,
        alibi=False,
        rope=True,
        include_bias=False,
        include_qkv_bias=False,
        input_emb_norm=False,
        scale_logits=False,
        multi_query_attention=False,
    )
    width, heads = size(fields, "d_model"), size(fields, "n_heads")
    turned = rotary(fields, width // heads)
    return TransformerConfig(
        vocab_size=int(fields.get("embedding_size") or size(fields, "vocab_size")),
        width=width,
        layers=size(fields, "n_layers"),
        heads=heads,
        kv_heads=int(fields.get("n_kv_heads") or heads),
        head_dim=width // heads,
        hidden=int(fields.get("mlp_hidden_size") or int(fields.get("mlp_ratio", 4)) * width),
        max_length=size(fields, "max_sequence_length"),
        rope_theta=turned.theta,
        rope_scaling=turned.scaling,
        norm_epsilon=float(fields.get("rms_norm_eps", 1e-5)),
        tied=bool(fields.get("weight_tying", False)),
    )


def fields(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `config`."""
    held = {
        "model_type": "llada",
        "architectures": ["LLaDAModelLM"],
        "vocab_size": config.vocab_size,
        "embedding_size": config.vocab_size,
        "d_model": config.width,
        "n_layers": config.layers,
        "n_heads": config.heads,
        "n_kv_heads": config.kv_heads,
        "mlp_hidden_size": config.hidden,
        "max_sequence_length": config.max_length,
        "rope_theta": config.rope_theta,
        "rms_norm_eps": config.norm_epsilon,
        "weight_tying": config.tied,
        "activation_type": "silu",
        "block_type": "llama",
        "layer_norm_type": "rms",
        "rope": True,
        "include_bias": False,
        "include_qkv_bias": False,
    }
    if config.rope_scaling is not None:
        rope = rope_fields(Rotary(config.rope_theta, None, config.rope_scaling), config.head_dim)
        held["rope_scaling"] = {key: x for key, x in rope.items() if key != "rope_theta"}
    return held


def names(path: Path, config: TransformerConfig) -> Stored:
    """Where a parameter is kept."""
    *modules, leaf = path
    named = [RENAMED.get(module, module) for module in modules]
    name = ".".join(["model.transformer", *filter(None, named), LEAVES[leaf]])
    return Stored(name, transposed=leaf == "kernel")


def fills(fields: Mapping[str, Any]) -> Fills:
    """A canvas whose positions all see one another."""
    return Fills("canvas", int(fields.get("mask_token_id") or MASK))


def reads(fields: Mapping[str, Any]) -> bool:
    """Whether it is not the mixture, which names the same type."""
    return "num_experts" not in fields


def ignored(name: str, config: TransformerConfig) -> bool:
    """The head of a tied network, and rotary frequencies."""
    tied = config.tied and name == "model.transformer.ff_out.weight"
    return tied or name.endswith(".inv_freq")


ARCHITECTURE = Architecture(
    "llada", ("llada",), config, fields, names, fills=fills, ignored=ignored, reads=reads
)
