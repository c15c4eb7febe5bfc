"""GPT-2: learned positions, layer norms, a plain feed-forward unit; its maps are stored as `[inputs, outputs]`."""

from collections.abc import Mapping
from typing import Any

from jaxdec.models.config import TransformerConfig
from jaxdec.models.huggingface.contract import Architecture, Path, Stored
from jaxdec.models.huggingface.fields import one_of, only, size
from jaxdec.models.huggingface.names import LEAVES

DEFAULTS = {"n_positions": 1024, "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True}
ACTIVATIONS = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "silu": "silu",
}
"""By the names of `activation_function`."""
MODULES = {
    "embed_tokens": "wte",
    "embed_positions": "wpe",
    "layers": "h",
    "norm": "ln_f",
    "input_layernorm": "ln_1",
    "post_attention_layernorm": "ln_2",
    "self_attn": "attn",
    "o_proj": "c_proj",
    "up_proj": "c_fc",
    "down_proj": "c_proj",
}
FUSED = ("q_proj", "k_proj", "v_proj")
"""What `c_attn` holds, side by side."""


def config(fields: Mapping[str, Any]) -> TransformerConfig:
    """The configuration; what `fields` leaves out has the defaults of the type."""
    held = {**DEFAULTS, **fields}
    only(
        held,
        scale_attn_weights=True,
        scale_attn_by_inverse_layer_idx=False,
        add_cross_attention=False,
    )
    activation = one_of(held, "activation_function", ACTIVATIONS, "gelu_new")
    width, heads = size(held, "n_embd"), size(held, "n_head")
    if width % heads:
        raise ValueError(f"n_head {heads} must divide n_embd {width}")
    return TransformerConfig(
        vocab_size=size(held, "vocab_size"),
        width=width,
        layers=size(held, "n_layer"),
        heads=heads,
        kv_heads=heads,
        head_dim=width // heads,
        hidden=int(held.get("n_inner") or 4 * width),
        max_length=size(held, "n_positions"),
        norm_epsilon=float(held["layer_norm_epsilon"]),
        tied=bool(held["tie_word_embeddings"]),
        positions="learned",
        attention_bias=True,
        output_bias=True,
        mlp_bias=True,
        norm="layer",
        norm_bias=True,
        activation=activation,
        gated=False,
    )


def fields(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `config`."""
    names = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": config.vocab_size,
        "n_embd": config.width,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": config.hidden,
        "n_positions": config.max_length,
        "layer_norm_epsilon": config.norm_epsilon,
        "tie_word_embeddings": config.tied,
        "activation_function": names[config.activation],
    }


def names(path: Path, config: TransformerConfig) -> Stored:
    """Where a checkpoint keeps a parameter.

    transformer.wte.weight, wpe.weight, ln_f.*    embed_tokens, embed_positions, norm
    transformer.h.<i>.ln_1.*, ln_2.*              layers[i].input_layernorm, post_attention_layernorm
    transformer.h.<i>.attn.c_attn.*               layers[i].self_attn.q_proj, k_proj, v_proj
    transformer.h.<i>.attn.c_proj.*               layers[i].self_attn.o_proj
    transformer.h.<i>.mlp.c_fc.*, c_proj.*        layers[i].mlp.up_proj, down_proj
    lm_head.weight                                lm_head.kernel (transposed; untied only)
    """
    *modules, leaf = path
    if modules == ["lm_head"]:
        return Stored("lm_head.weight", transposed=True)
    if modules[-1] in FUSED:
        at = FUSED.index(modules[-1]) * config.width
        return Stored(
            f"transformer.h.{modules[1]}.attn.c_attn.{LEAVES[leaf]}",
            part=(at, at + config.width),
            axis=1 if leaf == "kernel" else 0,
        )
    named = [MODULES.get(module, module) for module in modules]
    return Stored(".".join(["transformer", *named, LEAVES[leaf]]))


def ignored(name: str, config: TransformerConfig) -> bool:
    """Whether a tensor follows from others: the causal masks, the head of tied embeddings."""
    masks = (".attn.bias", ".attn.masked_bias")
    return name.endswith(masks) or (config.tied and name == "lm_head.weight")


ARCHITECTURE = Architecture(
    "gpt2", ("gpt2",), config, fields, names, ignored=ignored, prefix="transformer."
)
