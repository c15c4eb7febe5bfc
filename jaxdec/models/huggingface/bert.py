"""BERT as a masked language model (AntiBERTy ...).

bert.embeddings.<word|position|token_type>_embeddings.weight   embed_<tokens|positions|types>.embedding
bert.embeddings.LayerNorm.*                                    embed_norm.*
bert.encoder.layer.<i>.<see LAYER>.*                           layers[i].*              (weights transposed)
cls.predictions.transform.<dense|LayerNorm>.*                  transform.*, transform_norm.*
cls.predictions.bias                                           head_bias
cls.predictions.decoder.weight                                 lm_head.kernel           (untied only)
"""

from collections.abc import Mapping
from typing import Any

from jaxdec.models.bert import Bert, BertConfig
from jaxdec.models.huggingface.contract import Architecture, Fills, Path, Stored
from jaxdec.models.huggingface.fields import one_of, only, size
from jaxdec.models.huggingface.names import LEAVES

MASK = 103
PUBLISHED = (21128, 28996, 30522, 105879, 119547)
"""Sizes of the first vocabularies, in all of which `[MASK]` is 103."""
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "silu": "silu"}
TOP = {
    "embed_tokens": "bert.embeddings.word_embeddings",
    "embed_positions": "bert.embeddings.position_embeddings",
    "embed_types": "bert.embeddings.token_type_embeddings",
    "embed_norm": "bert.embeddings.LayerNorm",
    "transform": "cls.predictions.transform.dense",
    "transform_norm": "cls.predictions.transform.LayerNorm",
    "lm_head": "cls.predictions.decoder",
}
LAYER = {
    "self_attn.q_proj": "attention.self.query",
    "self_attn.k_proj": "attention.self.key",
    "self_attn.v_proj": "attention.self.value",
    "self_attn.o_proj": "attention.output.dense",
    "input_layernorm": "attention.output.LayerNorm",
    "mlp.up_proj": "intermediate.dense",
    "mlp.down_proj": "output.dense",
    "post_attention_layernorm": "output.LayerNorm",
}


def config(fields: Mapping[str, Any]) -> BertConfig:
    """The configuration.

    Raises:
      ValueError: if a size is missing, or a field asks for what is not supported: relative positions, a decoder.
    """
    only(fields, position_embedding_type="absolute", is_decoder=False, add_cross_attention=False)
    width, heads = size(fields, "hidden_size"), size(fields, "num_attention_heads")
    return BertConfig(
        vocab_size=size(fields, "vocab_size"),
        width=width,
        layers=size(fields, "num_hidden_layers"),
        heads=heads,
        kv_heads=heads,
        head_dim=width // heads,
        hidden=size(fields, "intermediate_size"),
        max_length=size(fields, "max_position_embeddings"),
        norm_epsilon=float(fields.get("layer_norm_eps", 1e-12)),
        tied=bool(fields.get("tie_word_embeddings", True)),
        activation=one_of(fields, "hidden_act", ACTIVATIONS, "gelu"),
        token_types=int(fields.get("type_vocab_size", 2)),
    )


def fields(config: BertConfig) -> dict[str, Any]:
    """The inverse of `config`."""
    return {
        "model_type": "bert",
        "architectures": ["BertForMaskedLM"],
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.hidden,
        "max_position_embeddings": config.max_length,
        "layer_norm_eps": config.norm_epsilon,
        "tie_word_embeddings": config.tied,
        "hidden_act": next(k for k, v in ACTIVATIONS.items() if v == config.activation),
        "type_vocab_size": config.token_types,
        "position_embedding_type": "absolute",
    }


def stored(path: Path, config: BertConfig) -> Stored:
    """Where a parameter is kept."""
    if path == ("head_bias",):
        return Stored("cls.predictions.bias")
    *modules, leaf = path
    if modules[0] == "layers":
        name = f"bert.encoder.layer.{modules[1]}.{LAYER['.'.join(modules[2:])]}"
    else:
        name = TOP[modules[0]]
    return Stored(f"{name}.{LEAVES[leaf]}", transposed=leaf == "kernel")


def fills(fields: Mapping[str, Any]) -> Fills:
    """A canvas; the mask token is never drawn.

    Raises:
      ValueError: if nothing says which token is the mask.
    """
    mask, vocab_size = fields.get("mask_token_id"), size(fields, "vocab_size")
    if mask is None and vocab_size not in PUBLISHED:
        raise ValueError(
            f"the configuration has no mask_token_id, and {MASK} is that of other vocabularies than one of {vocab_size}"
        )
    return Fills("canvas", MASK if mask is None else int(mask))


def ignored(name: str, config: BertConfig) -> bool:
    """Copies of tied tensors, a buffer of positions, and what other tasks than filling masks need."""
    copies = {"cls.predictions.decoder.bias", "bert.embeddings.position_ids"}
    if config.tied:
        copies.add("cls.predictions.decoder.weight")
    return name in copies or name.startswith(("bert.pooler.", "cls.seq_relationship."))


def renamed(name: str) -> str:
    """Files that were converted first call the scale and the bias of a norm gamma and beta."""
    for old, new in (("gamma", "weight"), ("beta", "bias")):
        if name.endswith(f"LayerNorm.{old}"):
            return name.removesuffix(old) + new
    return name


ARCHITECTURE = Architecture(
    "bert",
    ("bert",),
    config,
    fields,
    stored,
    network=Bert,
    fills=fills,
    ignored=ignored,
    renamed=renamed,
)
