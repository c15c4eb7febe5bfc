"""Folders as Hugging Face tools write them: `config.json`, `generation_config.json` and safetensors files.

Needs the `hf` extra.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import files
from jaxdec.model import Model, Params, from_nnx
from jaxdec.models.huggingface import mapping, tensors
from jaxdec.models.huggingface.contract import Fills, nothing
from jaxdec.models.huggingface.fields import reading
from jaxdec.models.huggingface.mask_token import tokenizer_mask
from jaxdec.models.huggingface.registry import named, of_fields

KNOBS = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typical",
    "epsilon_cutoff": "epsilon",
    "repetition_penalty": "repetition_penalty",
    "max_new_tokens": "max_new_tokens",
}
"""Fields of a `generation_config.json`, by the names that `jaxdec.generate` has for them."""
TYPES = ("float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What a folder holds.

    Attributes:
      model: what decoders take.
      params: its parameters, a nested dict.
      config: of the network.
      architecture: its name.
      fills: what a model that fills masks was trained for; None for one that predicts next tokens.
      defaults: settings of `jaxdec.generate` that the checkpoint proposes.
      fields: its `config.json`.
    """

    model: Model
    params: Params
    config: Any
    architecture: str
    fills: Fills | None
    defaults: dict[str, Any]
    fields: dict[str, Any]


def load(
    folder: str | Path,
    dtype: jax.typing.DTypeLike | None = None,
    *,
    architecture: str | None = None,
    layer_states: Sequence[int] = (),
    place: mapping.Place = mapping.place,
) -> Loaded:
    """Loads a checkpoint; nothing in the folder is run or unpickled.

    Tensors are read one by one, the largest first, each cast and placed before the next is read: beside the parameters,
    host memory holds one tensor at a time.

    Args:
      folder: with a `config.json` and safetensors files, one or several with an index.
      dtype: of the parameters and of caches; that of the checkpoint if not given. Logits are float32 in any case.
      architecture: by which it is read, for a checkpoint whose `config.json` names the type of its network and not what
        it was trained for; the one that reads its type if not given.
      layer_states: layers whose hidden states the model's outputs carry, for drafters that read them.
      place: from a parameter's path and its array in host memory to the array that is kept; on the default device if
        not given.

    Raises:
      ValueError: if a file is missing or damaged, the configuration is not supported or a tensor does not fit it; the
        message names file and tensor.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} must hold a config.json and at least one *.safetensors file")
    fields = files.read_json(folder / "config.json")
    if architecture is None:
        with reading(folder / "config.json"):
            kind = of_fields(fields)
    else:
        kind = named(architecture)
    if kind.fills is not nothing and fields.get("mask_token_id") is None:
        mask = tokenizer_mask(folder)
        fields |= {} if mask is None else {"mask_token_id": mask}
    with reading(folder / "config.json"):
        if fields.get("quantization_config") is not None:
            raise ValueError(
                "quantization_config is there, and quantised weights are not supported"
            )
        config = kind.config(fields)
        fills = kind.fills(fields)
        held = _stored_type(fields) if dtype is None else jnp.dtype(dtype)
    generation = folder / "generation_config.json"
    proposed = files.read_json(generation) if generation.is_file() else {}
    eos = _eos(proposed if proposed.get("eos_token_id") is not None else fields, config.vocab_size)
    with reading(folder / "config.json"):
        network = kind.abstract(config)
    model, _ = from_nnx(network, eos=eos, layer_states=layer_states, dtype=held)
    params = mapping.from_tensors(kind, tensors.Folder(folder), config, held, place)
    return Loaded(
        model if fills is None else fills(model),
        params,
        config,
        kind.name,
        fills,
        _defaults(proposed),
        fields,
    )


def _stored_type(fields: Mapping[str, Any]) -> Any:
    """The type of the parameters: `dtype`, or `torch_dtype` in older files; float32 where neither stands."""
    name = str(fields.get("dtype") or fields.get("torch_dtype") or "float32").removeprefix("torch.")
    if name not in TYPES:
        raise ValueError(f"dtype {name!r} is not supported, only {', '.join(TYPES)}")
    return jnp.dtype(name)


def _eos(fields: Mapping[str, Any], vocab_size: int) -> list[int]:
    """Tokens that end a sequence: one, a list or none."""
    eos = fields.get("eos_token_id")
    eos = [] if eos is None else eos if isinstance(eos, list) else [eos]
    for token in eos:
        if not isinstance(token, int) or not 0 <= token < vocab_size:
            raise ValueError(f"eos_token_id holds {token!r}, not tokens from 0 to {vocab_size - 1}")
    return eos


def _defaults(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that a `generation_config.json` proposes: greedy unless it says that it samples, as its readers do."""
    held = {KNOBS[name]: fields[name] for name in KNOBS if fields.get(name) is not None}
    if not fields.get("do_sample", False):
        filters = ("temperature", "top_k", "top_p", "min_p", "typical", "epsilon")
        held = {name: value for name, value in held.items() if name not in filters}
        held["temperature"] = 0.0
    return held


def save(
    folder: str | Path,
    params: Params,
    config: Any,
    architecture: str = "llama",
    *,
    eos: Sequence[int] = (),
    fields: Mapping[str, Any] | None = None,
    largest: int = 5 * 2**30,
) -> None:
    """Writes a checkpoint to a new folder, whole or not at all: the inverse of `load`.

    Args:
      folder: does not exist, or is empty.
      params: parameters; their type is that of the tensors.
      config: of the network.
      architecture: under which the network is stored.
      eos: tokens that end a sequence.
      fields: more fields of the `config.json`, such as those of the checkpoint that was loaded; those that follow from
        `config` win.
      largest: bytes of one file of weights at most.

    Raises:
      ValueError: if the folder holds anything, `params` does not fit `config`, or the architecture cannot store it; the
        message names what would be lost.
    """
    folder, kind = Path(folder), named(architecture)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not an empty folder")
    # Readers take what is left out for the tokens of the type.
    none = {f"{name}_token_id": None for name in ("bos", "eos", "pad")}
    held = {**none, **(fields or {}), **checked_fields(architecture, config)}
    arrays = mapping.to_tensors(kind, params, config)
    dtype = np.dtype(next(iter(arrays.values())).dtype).name
    held |= {"torch_dtype": dtype, "dtype": dtype}
    if eos:
        held["eos_token_id"] = list(eos)
    with files.whole_folder(folder) as draft:
        tensors.write(draft, arrays, largest=largest)
        (draft / "config.json").write_text(json.dumps(held, indent=2) + "\n")


def checked_fields(architecture: str, config: Any) -> dict[str, Any]:
    """The fields of a `config.json`, which are read back as the same configuration.

    Raises:
      ValueError: naming what the architecture cannot store.
    """
    kind = named(architecture)
    held = kind.fields(config)
    back = kind.config(held)
    lost = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != getattr(back, field.name)
    }
    if lost:
        # Where layers differ, that is why other fields do.
        name = "layer_kinds" if "layer_kinds" in lost else next(iter(lost))
        raise ValueError(f"{architecture} cannot store {name} {lost[name]!r}")
    return held
