"""DFlash's drafter: layers in the manner of Qwen3 that share embedding and output matrix with their target.

fc.weight [D, m D]   hidden_norm.weight   norm.weight
layers.<i>.self_attn.{q,k,v,o}_proj, {q,k}_norm, layers.<i>.mlp.*, layers.<i>.*_layernorm   as in Qwen3
"""

from collections.abc import Mapping
from typing import Any

from jaxdec.models.config import TransformerConfig
from jaxdec.models.dflash import DFlash, DFlashConfig
from jaxdec.models.huggingface.contract import Architecture, Path, Stored
from jaxdec.models.huggingface.draft_heads import DraftHeads
from jaxdec.models.huggingface.fields import like_llama, llama_fields, only, size
from jaxdec.models.huggingface.names import is_rotary_buffer
from jaxdec.models.huggingface.names import like_llama as names
from jaxdec.models.huggingface.tensors import Tensors

SECTION, IDS, MASK = "dflash_config", "target_layer_ids", "mask_token_id"
FORMS = ("embedding_scale", "logit_scale", "logit_softcap", "head_bias")
"""What the target does with its embedding and its logits, by name of `TransformerConfig`."""


def reads(fields: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is that of a DFlash drafter."""
    return SECTION in fields or "DFlashDraftModel" in (fields.get("architectures") or ())


def complete(
    fields: Mapping[str, Any], target: TransformerConfig | None, held: Tensors
) -> dict[str, Any]:
    """Which layers are tapped, if the file does not say it, and the forms of the target's embedding and head.

    With m layers of its own and L of the target, the states that leave layer `round(1 + i (L - 4) / (m - 1))` (counted
    from 0), i < m.

    Raises:
      ValueError: without a target, or for one of other sizes.
    """
    if target is None:
        raise ValueError("DFlash shares embedding and head with its target: give the target")
    own = {"vocab_size": target.vocab_size, "hidden_size": target.width}
    own |= {"num_target_layers": target.layers}
    for name, value in own.items():
        if fields.get(name, value) != value:
            raise ValueError(f"{name} is {fields[name]}, the target's is {value}")
    section = dict(fields.get(SECTION) or {})
    if not section.get(IDS):
        count, layers = size(fields, "num_hidden_layers"), target.layers
        section[IDS] = [layers // 2]
        if count > 1:
            section[IDS] = [round(1 + i * (layers - 4) / (count - 1)) for i in range(count)]
    section.setdefault(MASK, fields.get(MASK))
    forms = {name: getattr(target, name) for name in FORMS}
    tied = {"tie_word_embeddings": target.tied}
    return {**own, **fields, **tied, SECTION: {**section, "forms": forms}}


def config(fields: Mapping[str, Any]) -> DFlashConfig:
    """The configuration, from fields that say what the target has."""
    section, kinds = fields[SECTION], {*(fields.get("layer_types") or ())}
    only(fields, hidden_act="silu", mlp_bias=False, use_sliding_window=False)
    if kinds - {"full_attention"}:
        raise ValueError(f"layer_types {sorted(kinds)} are not supported, only full_attention")
    bias = bool(fields.get("attention_bias", False))
    forms = {"attention_bias": bias, "output_bias": bias, **section.get("forms", {})}
    plain = like_llama(fields, qk_norm="head", **forms)
    return DFlashConfig(
        **{name: getattr(plain, name) for name in plain.__dataclass_fields__},
        taps=tuple(int(layer) + 1 for layer in section[IDS]),
        mask_token=size(section, MASK),
        block=int(fields.get("block_size", 16)),
    )


def fields(config: DFlashConfig) -> dict[str, Any]:
    """The inverse of `config`."""
    section = {
        IDS: [layer - 1 for layer in config.taps],
        MASK: config.mask_token,
        "forms": {name: getattr(config, name) for name in FORMS},
    }
    return llama_fields(
        config,
        model_type="qwen3",
        architectures=["DFlashDraftModel"],
        attention_bias=config.attention_bias,
        block_size=config.block,
        **{SECTION: section},
    )


def stored(path: Path, config: DFlashConfig) -> Stored | tuple[Stored, ...]:
    """Where a parameter is kept."""
    return Stored("head_bias") if path == ("head_bias",) else names(path, config, prefix="")


ARCHITECTURE = Architecture(
    "dflash", (), config, fields, stored, network=DFlash, ignored=is_rotary_buffer
)
HEADS = DraftHeads(
    reads,
    complete,
    {
        ("embed_tokens", "embedding"): "embed_tokens.weight",
        ("lm_head", "kernel"): "lm_head.weight",
        ("head_bias",): "head_bias",
    },
)
