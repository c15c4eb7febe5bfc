"""Llama and Mistral weights in the layout of Hugging Face checkpoints, one to one.

    model.embed_tokens.weight                    embed_tokens.embedding
    model.layers.<i>.<part>.<name>_proj.weight   layers[i].<part>.<name>_proj.kernel   (transposed)
    model.layers.<i>.<name>_layernorm.weight     layers[i].<name>_layernorm.scale
    model.norm.weight                            norm.scale
    lm_head.weight                               lm_head.kernel                        (transposed; untied only)

Both rotate the two halves of each head, so nothing is permuted. A Mistral is a Llama whose tokens see a window of the
last ones; it has the same tensors.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdec import files
from jaxdec.model import Model, Params, from_nnx
from jaxdec.models.transformer import Transformer, TransformerConfig

_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"max_position_embeddings": 2048},
    "mistral": {
        "max_position_embeddings": 131072,
        "num_key_value_heads": 8,
        "sliding_window": 4096,
    },
}
"""By model type, what the fields mean that a `config.json` leaves out."""


def llama_config(fields: Mapping[str, Any]) -> TransformerConfig:
    """The sizes of the `config.json` of a Llama or a Mistral; what it leaves out has the defaults of its type.

    Raises:
      ValueError: if a size is missing, or a field asks for what `Transformer` does not compute: another model type or
        activation, scaled rotary frequencies, biases, a window in a type that has none.
    """
    kind = fields.get("model_type", "llama")
    if kind not in _DEFAULTS:
        raise ValueError(f"model_type {kind!r} is not supported, only {', '.join(_DEFAULTS)}")
    held = {**_DEFAULTS[kind], **fields}
    if kind == "llama" and held.get("sliding_window") is not None:
        said = (
            "model_type 'llama' has"
            if "model_type" in fields
            else "model_type is missing, and Llama has"
        )
        raise ValueError(f"{said} no sliding_window, got {held['sliding_window']!r}; Mistral has")
    supported = [
        ("hidden_act", "silu"),
        ("attention_bias", False),
        ("mlp_bias", False),
        ("partial_rotary_factor", 1.0),
    ]
    for name, only in supported:
        if held.get(name, only) != only:
            raise ValueError(f"{name} {held[name]!r} is not supported, only {only!r}")
    if len(layers := {*(held.get("layer_types") or ())}) > 1:
        raise ValueError(f"layer_types {sorted(layers)} are not supported, only layers of one type")

    def size(name: str) -> int:
        if held.get(name) is None:
            raise ValueError(f"the configuration has no {name}")
        return int(held[name])

    width, heads = size("hidden_size"), size("num_attention_heads")
    return TransformerConfig(
        vocab_size=size("vocab_size"),
        width=width,
        layers=size("num_hidden_layers"),
        heads=heads,
        kv_heads=int(held.get("num_key_value_heads") or heads),
        head_dim=int(held.get("head_dim") or width // heads),
        hidden=size("intermediate_size"),
        max_length=size("max_position_embeddings"),
        rope_theta=_theta(held),
        norm_epsilon=float(held.get("rms_norm_eps", 1e-6)),
        tied=bool(held.get("tie_word_embeddings", False)),
        window=None if held.get("sliding_window") is None else size("sliding_window"),
    )


def _theta(held: Mapping[str, Any]) -> float:
    """The base of the rotary frequencies: of `rope_parameters`, where newer checkpoints keep it, else of the top level.

    Raises:
      ValueError: if the frequencies are scaled.
    """
    theta = held.get("rope_theta")
    for name in ("rope_scaling", "rope_parameters"):  # the later one wins
        rope = held.get(name) or {}
        # Both names of the type are in use; one that is missing means the default, but for a scaling.
        kind = rope.get("rope_type", rope.get("type"))
        allowed = ("default",) if name == "rope_scaling" and rope else ("default", None)
        nested = any(isinstance(value, Mapping) for value in rope.values())
        if kind not in allowed or nested or rope.get("partial_rotary_factor", 1.0) != 1.0:
            raise ValueError(
                f"{name} {dict(rope)!r} is not supported, only rotary frequencies of type 'default', "
                "the same in all layers"
            )
        theta = rope.get("rope_theta", theta)
    return 10000.0 if theta is None else float(theta)


def hf_config(
    config: TransformerConfig,
    *,
    eos: Sequence[int] = (),
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> dict[str, Any]:
    """The `config.json` of a Hugging Face checkpoint: the inverse of `llama_config`.

    Args:
      config: sizes; with a window the type is Mistral, else Llama.
      eos: tokens that end a sequence.
      dtype: of the tensors.
    """
    kind = "llama" if config.window is None else "mistral"
    held: dict[str, Any] = {
        "model_type": kind,
        "architectures": [f"{kind.capitalize()}ForCausalLM"],
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.hidden,
        "max_position_embeddings": config.max_length,
        "rope_theta": config.rope_theta,
        "rms_norm_eps": config.norm_epsilon,
        "tie_word_embeddings": config.tied,
        "hidden_act": "silu",
        "attention_bias": False,
        "eos_token_id": list(eos) or None,
        "torch_dtype": jnp.dtype(dtype).name,
    }
    if config.window is not None:
        held["sliding_window"] = config.window
    return held


def _abstract(config: TransformerConfig) -> Transformer:
    """The network with shapes in place of arrays."""
    return nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0)))


def _name(path: tuple[Any, ...]) -> tuple[str, bool]:
    """The tensor's name for a leaf of the parameters, and whether it is stored transposed."""
    *modules, leaf = (str(key.key) for key in path)
    name = ".".join([*modules, "weight"])
    return name if modules[0] == "lm_head" else f"model.{name}", leaf == "kernel"


def from_llama(
    tensors: Mapping[str, Any], config: TransformerConfig, dtype: jax.typing.DTypeLike = jnp.float32
) -> Params:
    """Parameters of a `Transformer` from the tensors of a Llama checkpoint.

    Args:
      tensors: arrays by name, as a safetensors file holds them.
      config: sizes, such as `llama_config` gives.
      dtype: of the parameters.

    Returns:
      A nested dict of arrays, as `from_nnx` gives.

    Raises:
      ValueError: naming the tensor, if one is missing, unknown or has another shape.
    """
    # Older checkpoints store the rotary frequencies too, which follow from the configuration; some tied ones a head,
    # which is the embedding's.
    unknown = {name for name in tensors if not name.endswith(".rotary_emb.inv_freq")}
    unknown -= {"lm_head.weight"} if config.tied else set()

    def one(path, expected):
        name, transposed = _name(path)
        if name not in tensors:
            raise ValueError(f"tensor {name!r} is missing")
        unknown.discard(name)
        shape = expected.shape[::-1] if transposed else expected.shape
        if tensors[name].shape != shape:
            raise ValueError(
                f"tensor {name!r} has shape {list(tensors[name].shape)}, expected {list(shape)}"
            )
        tensor = jnp.asarray(tensors[name], dtype)
        return tensor.T if transposed else tensor

    params = jax.tree_util.tree_map_with_path(one, from_nnx(_abstract(config))[1])
    if unknown:
        raise ValueError(
            f"tensor {min(unknown)!r} is unknown to a {'tied' if config.tied else 'untied'} Llama of "
            f"{config.layers} layers ({len(unknown)} such)"
        )
    return params


def to_llama(
    params: Params, config: TransformerConfig, *, eos: Sequence[int] = ()
) -> tuple[dict[str, jax.Array], dict[str, Any]]:
    """The tensors of a Llama or Mistral by name, and the configuration without which they mean another model.

    Args:
      params: of a `Transformer` that predicts next tokens.
      config: its sizes.
      eos: tokens that end a sequence.

    Returns:
      `(tensors, hf_config)`: what `from_llama` and `llama_config` take.

    Raises:
      ValueError: naming the tensor, if `params` does not fit `config`.
    """
    tensors = {}
    for path, x in jax.tree_util.tree_leaves_with_path(params):
        name, transposed = _name(path)
        tensors[name] = x.T if transposed else x
    jax.eval_shape(lambda held: from_llama(held, config), tensors)  # checks names and shapes
    return tensors, hf_config(config, eos=eos, dtype=next(iter(tensors.values())).dtype)


def save_llama(
    folder: str | Path, params: Params, config: TransformerConfig, *, eos: Sequence[int] = ()
) -> None:
    """Writes a Hugging Face checkpoint to a new folder, whole or not at all: the inverse of `load_llama`.

    Needs the `hf` extra.

    Args:
      folder: does not exist, or is empty.
      params: as for `to_llama`.
      config: its sizes.
      eos: tokens that end a sequence.

    Raises:
      ValueError: as `to_llama`, or if the folder holds anything.
    """
    from safetensors.flax import save_file

    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not an empty folder")
    tensors, held = to_llama(params, config, eos=eos)
    with files.whole_folder(folder) as draft:
        save_file(tensors, draft / "model.safetensors", metadata={"format": "pt"})
        (draft / "config.json").write_text(json.dumps(held, indent=2) + "\n")


def load_llama(
    folder: str | Path, dtype: jax.typing.DTypeLike = jnp.float32
) -> tuple[Model, Params]:
    """Loads a Llama or a Mistral: `config.json` and all `*.safetensors` of a folder. Needs the `hf` extra.

    Args:
      folder: as Hugging Face tools write it.
      dtype: of the parameters.

    Returns:
      `(model, params)`, ready for a decoder.

    Raises:
      ValueError: if a file is missing, the configuration is not supported or a tensor does not fit it.
    """
    from safetensors.flax import load_file

    folder = Path(folder)
    parts = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file() or not parts:
        raise ValueError(f"{folder} must hold a config.json and at least one *.safetensors file")
    try:
        held = json.loads((folder / "config.json").read_bytes())
    except ValueError:
        held = None
    if not isinstance(held, dict):
        raise ValueError(f"{folder / 'config.json'} is not a JSON object")
    config = llama_config(held)
    eos = held.get("eos_token_id")
    eos = [] if eos is None else eos if isinstance(eos, list) else [eos]
    for token in eos:
        if not isinstance(token, int) or not 0 <= token < config.vocab_size:
            raise ValueError(
                f"eos_token_id holds {token!r}, not tokens from 0 to {config.vocab_size - 1}"
            )
    tensors = {name: x for part in parts for name, x in load_file(part).items()}
    return from_nnx(_abstract(config), eos=eos)[0], from_llama(tensors, config, dtype)
