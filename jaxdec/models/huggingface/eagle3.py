"""EAGLE-3's draft layer: a `config.json` of type `llama` with a vocabulary of drafts.

midlayer.self_attn.{q,k,v}_proj.weight [., 2 D]   read token and feature side by side
midlayer.{hidden_norm,input_layernorm,post_attention_layernorm}.weight, midlayer.mlp.*
fc.weight [D, 3 W]   norm.weight   lm_head.weight [K, D]
d2t [K]   an offset: token k of the drafts is token k + d2t[k] of the target
t2d [V]   bool, which tokens of the target there are; it follows from d2t
embed_tokens.weight [V, D]   the target's, where it is missing
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdec.models.config import TransformerConfig
from jaxdec.models.eagle3 import Eagle3, Eagle3Config
from jaxdec.models.huggingface.contract import Architecture, Path, Stored
from jaxdec.models.huggingface.draft_heads import DraftHeads
from jaxdec.models.huggingface.fields import like_llama, llama_fields, only, size
from jaxdec.models.huggingface.names import is_rotary_buffer
from jaxdec.models.huggingface.names import like_llama as names
from jaxdec.models.huggingface.tensors import Tensors

IDS = "eagle_aux_hidden_state_layer_ids"


def reads(fields: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is that of an EAGLE-3 layer."""
    named = [str(name).lower() for name in fields.get("architectures") or ()]
    return "draft_vocab_size" in fields or any("eagle3" in name for name in named)


def complete(
    fields: Mapping[str, Any], target: TransformerConfig | None, held: Tensors
) -> dict[str, Any]:
    """Which layers are tapped, if the file does not say it: what enters layers 2, L // 2 and L - 3 of L, from 0.

    Layers that a file names are counted by what leaves them.

    Raises:
      ValueError: without a target, or for one of other sizes.
    """
    if target is None:
        raise ValueError("EAGLE-3 drafts from states of its target: give the target")
    complete = {"target_hidden_size": target.width, "vocab_size": target.vocab_size, **fields}
    for name, own in (("target_hidden_size", target.width), ("vocab_size", target.vocab_size)):
        if complete[name] != own:
            raise ValueError(f"{name} is {complete[name]}, the target's is {own}")
    ids = fields.get(IDS) or (fields.get("eagle_config") or {}).get(IDS)
    if not ids:
        if target.layers < 3:
            raise ValueError(f"taps of a target of at least 3 layers, got one of {target.layers}")
        ids = [1, target.layers // 2 - 1, target.layers - 4]
    if "lm_head.weight" in held.names():
        drafted = held.shape("lm_head.weight")[0]
        complete = {"draft_vocab_size": drafted, **complete}
    return {**complete, IDS: [int(layer) for layer in ids]}


def config(fields: Mapping[str, Any]) -> Eagle3Config:
    """The configuration, from fields that say which layers are tapped."""
    held = {"max_position_embeddings": 2048, **fields}
    only(held, hidden_act="silu", mlp_bias=False, num_hidden_layers=1)
    only(held, norm_before_residual=False, norm_before_fc=False)
    bias = bool(held.get("attention_bias", False))
    sizes = {"num_hidden_layers": 1, **held}
    plain = like_llama(sizes, tied=False, attention_bias=bias, output_bias=bias)
    drafted = held.get("draft_vocab_size")
    return Eagle3Config(
        **{name: getattr(plain, name) for name in plain.__dataclass_fields__},
        taps=tuple(int(layer) + 1 for layer in held[IDS]),
        target_width=size(held, "target_hidden_size"),
        draft_vocab_size=None if drafted in (None, plain.vocab_size) else int(drafted),
    )


def fields(config: Eagle3Config) -> dict[str, Any]:
    """The inverse of `config`."""
    return llama_fields(
        config,
        model_type="llama",
        architectures=["LlamaForCausalLMEagle3"],
        attention_bias=config.attention_bias,
        draft_vocab_size=config.drafted,
        target_hidden_size=config.reads,
        **{IDS: [layer - 1 for layer in config.taps]},
    )


def stored(path: Path, config: Eagle3Config) -> Stored | tuple[Stored, ...]:
    """Where a parameter is kept."""
    return Stored("d2t") if path == ("d2t",) else names(path, config, prefix="")


def ignored(name: str, config: Eagle3Config) -> bool:
    """Whether a tensor follows from others: the table of tokens, from the offsets."""
    whole = config.draft_vocab_size is None
    return name == "t2d" or (whole and name == "d2t") or is_rotary_buffer(name, config)


def check(held: Tensors, config: Eagle3Config) -> None:
    """Raises `ValueError` unless the offsets name tokens of the target in order, those of the table."""
    if config.draft_vocab_size is None or "d2t" not in held.names():
        return
    offsets = np.asarray(held.read("d2t"))
    tokens = np.arange(len(offsets)) + offsets
    if (
        not np.issubdtype(offsets.dtype, np.integer)
        or (np.diff(tokens) <= 0).any()
        or tokens[0] < 0
        or tokens[-1] >= config.vocab_size
    ):
        raise ValueError(
            f"{held.place('d2t')} must hold offsets: k + d2t[k] are different tokens of the target's "
            f"{config.vocab_size}, in order"
        )
    if "t2d" in held.names() and not np.array_equal(np.flatnonzero(held.read("t2d")), tokens):
        raise ValueError(f"{held.place('t2d')} names other tokens than d2t")


def renamed(name: str) -> str:
    """The name of a tensor; some files call the layer as those of models are."""
    return name.replace("layers.0.", "midlayer.", 1)


ARCHITECTURE = Architecture(
    "eagle3", (), config, fields, stored, network=Eagle3, ignored=ignored, renamed=renamed
)
HEADS = DraftHeads(reads, complete, {("embed_tokens", "embedding"): "embed_tokens.weight"}, check)
