"""Public checkpoints of networks that draft from a target's states: what they leave to their target, and how they load.

Needs the `hf` extra.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path as Folder
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.files import read_json
from jaxdec.model import Heads, Model, Params, from_nnx, heads_from_nnx
from jaxdec.models.config import TransformerConfig
from jaxdec.models.huggingface import mapping, tensors
from jaxdec.models.huggingface.contract import Architecture, Path
from jaxdec.models.huggingface.fields import reading
from jaxdec.models.huggingface.registry import heads_modules, heads_of_fields, named


@dataclasses.dataclass(frozen=True)
class DraftHeads:
    """What sets checkpoints of draft heads apart from those of models; see `Architecture` for the rest.

    Attributes:
      reads: whether a `config.json` is of this kind.
      complete: from the fields of a `config.json`, the target's configuration (None where none is given) and the
        tensors to all fields that `Architecture.config` needs; raises `ValueError` for a target that does not fit.
      shared: names of tensors by the paths of parameters that are the target's where the files lack them.
      check: raises `ValueError` for tensors that contradict one another.
    """

    reads: Callable[[Mapping[str, Any]], bool]
    complete: Callable[
        [Mapping[str, Any], TransformerConfig | None, tensors.Tensors], dict[str, Any]
    ]
    shared: Mapping[Path, str] = dataclasses.field(default_factory=dict)
    check: Callable[[tensors.Tensors, Any], None] = lambda held, config: None


@dataclasses.dataclass(frozen=True)
class LoadedHeads:
    """What a folder holds.

    Attributes:
      heads: what `jaxdec.drafters` take: `Heads`, or a `Model` that reads features.
      params: its parameters, a nested dict; those that the target shares are the target's own arrays.
      config: of the network.
      architecture: its name.
      fields: its `config.json`, with what the target filled in.
    """

    heads: Heads | Model
    params: Params
    config: Any
    architecture: str
    fields: dict[str, Any]


def load_heads(
    folder: str | Folder,
    target: tuple[TransformerConfig, Params] | None = None,
    dtype: jax.typing.DTypeLike | None = None,
    *,
    place: mapping.Place = mapping.place,
) -> LoadedHeads:
    """Loads a checkpoint of draft heads; nothing in the folder is run or unpickled.

    Args:
      folder: with a `config.json` and safetensors files.
      target: configuration and parameters of the model that they draft for. Embedding and output matrix are shared
        where the files lack them: no copy is made.
      dtype: of parameters and caches; that of the target's embedding if not given, float32 without a target.
      place: as in `load`.

    Raises:
      ValueError: if a file is missing or damaged, the configuration is not supported, the target does not fit or is
        missing where it is needed, or a tensor does not fit; the message names file and tensor.
    """
    folder = Folder(folder)
    fields = read_json(folder / "config.json")
    name = heads_of_fields(fields)
    if name is None:
        raise ValueError(f"{folder / 'config.json'}: it is not the configuration of draft heads")
    kind, heads, held = named(name), heads_named(name), tensors.Folder(folder)
    sizes, params = (None, None) if target is None else target
    if sizes is not None and not isinstance(sizes, TransformerConfig):
        raise ValueError(
            f"{name} heads draft for a Transformer, the target's configuration is a {type(sizes).__name__}"
        )
    with reading(folder / "config.json"):
        fields = heads.complete(fields, sizes, held)
        config = kind.config(fields)
    heads.check(held, config)
    if dtype is None:
        dtype = jnp.float32 if params is None else params["embed_tokens"]["embedding"].dtype
    given = _shared(heads, held, params)
    read = mapping.from_tensors(kind, held, config, dtype, place, given)
    return LoadedHeads(network(kind, config, dtype), read, config, name, fields)


def network(
    kind: Architecture, config: Any, dtype: jax.typing.DTypeLike | None = None
) -> Heads | Model:
    """What `jaxdec.drafters` take: a `Model` of a network that has a cache, `Heads` of one that has none."""
    module = kind.abstract(config)
    if not hasattr(module, "init_cache"):
        return heads_from_nnx(module)[0]
    model = from_nnx(module, dtype=dtype)[0]
    mask_token = getattr(config, "mask_token", None)
    return dataclasses.replace(model, mask_token=mask_token, causal=mask_token is None)


def heads_named(name: str) -> DraftHeads:
    """What an architecture of draft heads leaves to its target, by its name."""
    return heads_modules()[name].HEADS


def _shared(
    heads: DraftHeads, held: tensors.Tensors, params: Params | None
) -> dict[Path, jax.Array]:
    """The target's parameters for which there is no tensor."""
    given: dict[Path, jax.Array] = {}
    for path, name in heads.shared.items():
        value = params
        for key in path:
            value = None if value is None else value.get(key)
        if value is not None and name not in held.names():
            given[path] = value
    return given
