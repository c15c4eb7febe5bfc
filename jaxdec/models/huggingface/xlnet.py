"""XLNet, and the weights of any-subset models (AS-ARM) that were trained on from it.

transformer.word_embedding.weight           word_embedding.embedding
transformer.mask_emb            [1, 1, D]   mask_emb
transformer.layer.<i>.rel_attn.<name>       layers[i].rel_attn.<name>
transformer.layer.<i>.<part>.layer_norm.*   layers[i].<part>.layer_norm.*
transformer.layer.<i>.ff.layer_<n>.*        layers[i].ff.layer_<n>.*       (weights transposed)
lm_loss.bias                                lm_loss.bias
lm_loss.weight                              lm_loss.kernel                 (transposed; untied only)
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from jaxdec.model import Model, two_stream
from jaxdec.models.huggingface.contract import Architecture, Fills, Path, Stored
from jaxdec.models.huggingface.fields import one_of, only, size
from jaxdec.models.huggingface.names import LEAVES
from jaxdec.models.xlnet import XLNet, XLNetConfig

MASK = 6
"""`<mask>` of the vocabulary that all published checkpoints have; a `config.json` says nothing of it."""
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "silu": "silu", "swish": "silu"}
OTHER_NAMES = {
    "hidden_size": "d_model",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "n_token": "vocab_size",
}


def config(fields: Mapping[str, Any]) -> XLNetConfig:
    """The configuration.

    Raises:
      ValueError: if a size is missing, or a field asks for what is not supported: attention to the left alone,
        distances that are clamped, rows that are read backwards.
    """
    held = {OTHER_NAMES.get(name, name): value for name, value in fields.items()}
    only(held, attn_type="bi", bi_data=False)
    if (held.get("clamp_len") or -1) > 0:
        raise ValueError(f"clamp_len {held['clamp_len']!r} is not supported, only -1")
    width, heads = size(held, "d_model"), size(held, "n_head")
    return XLNetConfig(
        vocab_size=size(held, "vocab_size"),
        width=width,
        layers=size(held, "n_layer"),
        heads=heads,
        head_dim=int(held.get("d_head") or width // heads),
        hidden=size(held, "d_inner"),
        activation=one_of(held, "ff_activation", ACTIVATIONS, "gelu"),
        norm_epsilon=float(held.get("layer_norm_eps", 1e-12)),
        tied=bool(held.get("tie_word_embeddings", True)),
    )


def fields(config: XLNetConfig) -> dict[str, Any]:
    """The inverse of `config`."""
    return {
        "model_type": "xlnet",
        "architectures": ["XLNetLMHeadModel"],
        "vocab_size": config.vocab_size,
        "d_model": config.width,
        "n_layer": config.layers,
        "n_head": config.heads,
        "d_head": config.head_dim,
        "d_inner": config.hidden,
        "ff_activation": next(k for k, v in ACTIVATIONS.items() if v == config.activation),
        "layer_norm_eps": config.norm_epsilon,
        "tie_word_embeddings": config.tied,
        "attn_type": "bi",
        "bi_data": False,
        "clamp_len": -1,
        "untie_r": True,
    }


def stored(path: Path, config: XLNetConfig) -> Stored:
    """Where a parameter is kept."""
    if path == ("mask_emb",):
        return Stored("transformer.mask_emb", shape=(1, 1, config.width))
    *modules, leaf = path
    name = ".".join(["layer" if module == "layers" else module for module in modules])
    start = "" if modules == ["lm_loss"] else "transformer."
    return Stored(f"{start}{name}.{LEAVES.get(leaf, leaf)}", transposed=leaf == "kernel")


def any_subset(model: Model, mask_token: int) -> Model:
    """What decoders take: queries are answered in two streams.

    No token ends a row unless a request says so: gaps have their lengths.
    """
    return two_stream(dataclasses.replace(model, eos=()), mask_token)


def fills(fields: Mapping[str, Any]) -> Fills:
    """Any subset given any other; the mask token is never drawn."""
    mask = MASK if fields.get("mask_token_id") is None else int(fields["mask_token_id"])
    wrap = functools.partial(any_subset, mask_token=mask)
    return Fills("subsets", mask, wrap=wrap)


def ignored(name: str, config: XLNetConfig) -> bool:
    """The head of a tied network, which some files hold as well."""
    return config.tied and name == "lm_loss.weight"


ARCHITECTURE = Architecture(
    "xlnet", ("xlnet",), config, fields, stored, network=XLNet, fills=fills, ignored=ignored
)
