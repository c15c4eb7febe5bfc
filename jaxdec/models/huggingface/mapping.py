"""Parameters from the tensors of a checkpoint, and back."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.model import Params, from_nnx
from jaxdec.models.huggingface.contract import Architecture, Path, Stored
from jaxdec.models.huggingface.tensors import InMemory, Renamed, Tensors

Place = Callable[[Path, np.ndarray], jax.Array]
FLOATS = ("float64", "float32", "float16", "bfloat16")
"""What parameters may be stored as: numbers that are quantised mean nothing without their scales."""


def place(path: Path, array: np.ndarray) -> jax.Array:
    """On the default device, like any fresh array."""
    return jnp.asarray(array)


def from_tensors(
    architecture: Architecture,
    tensors: Mapping[str, Any] | Tensors,
    config: Any,
    dtype: jax.typing.DTypeLike = jnp.float32,
    place: Place = place,
) -> Params:
    """Parameters of a network from the tensors of a checkpoint.

    Args:
      architecture: how they are named.
      tensors: arrays by name, or a `tensors.Folder`; the largest parameter is read first, each is cast and
        placed before the next one is read.
      config: of the network.
      dtype: of the parameters.
      place: from a parameter's path and its array in host memory to the array that is kept.

    Returns:
      A nested dict of arrays, as `from_nnx` gives.

    Raises:
      ValueError: naming the file and the tensor, if one is missing, unknown or has another shape.
    """
    held = InMemory(tensors) if isinstance(tensors, Mapping) else tensors
    held = Renamed(held, architecture.renamed)
    plan = _plan(architecture, config, held)
    _check(architecture, held, config, plan)
    params: list[Any] = [None] * len(plan.paths)
    for i in sorted(range(len(params)), key=lambda i: -math.prod(plan.shapes[i])):
        array = _read(held, plan.pieces[i], plan.shapes[i], jnp.dtype(dtype))
        params[i] = place(plan.paths[i], array)
    return jax.tree_util.tree_unflatten(plan.tree, params)


class _Plan(NamedTuple):
    """Parameters of a network: where they stand, their shapes, and what each is made of (see `_pieces`)."""

    tree: Any
    paths: list[Path]
    shapes: list[tuple[int, ...]]
    pieces: list[tuple[tuple[Stored, ...], bool]]


def _plan(architecture: Architecture, config: Any, held: Tensors) -> _Plan:
    leaves, tree = jax.tree_util.tree_flatten_with_path(from_nnx(architecture.abstract(config))[1])
    paths = [_path(path) for path, _ in leaves]
    pieces = [_pieces(architecture.stored(path, config)) for path in paths]
    prefix, names = architecture.prefix, held.names()
    if names and not any(name.startswith(prefix) for name in names):
        bare = lambda piece: dataclasses.replace(piece, name=piece.name.removeprefix(prefix))
        pieces = [(tuple(map(bare, parts)), stacked) for parts, stacked in pieces]
    return _Plan(tree, paths, [leaf.shape for _, leaf in leaves], pieces)


def _path(keys: Any) -> Path:
    return tuple(str(key.key) for key in keys)


def _pieces(stored: Stored | tuple[Stored, ...]) -> tuple[tuple[Stored, ...], bool]:
    """What a parameter is made of, and whether it is stacked of several."""
    return (stored, True) if isinstance(stored, tuple) else ((stored,), False)


def _extents(plan: _Plan) -> dict[str, int]:
    """How long tensors are, along their axis, that hold several parameters."""
    extents: dict[str, int] = {}
    for pieces, _ in plan.pieces:
        for piece in pieces:
            if piece.part is not None:
                extents[piece.name] = max(extents.get(piece.name, 0), piece.part[1])
    return extents


def _expected(piece: Stored, shape: tuple[int, ...], extents: Mapping[str, int]) -> list[int]:
    """The shape that a tensor should have, from that of the parameter."""
    full = list(piece.shape or (shape[::-1] if piece.transposed else shape))
    if piece.part is not None:
        full[piece.axis] = extents[piece.name]
    return full


def stored_shapes(architecture: Architecture, config: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that a checkpoint of some configuration holds."""
    plan = _plan(architecture, config, InMemory({}))
    extents, shapes = _extents(plan), {}
    for (pieces, stacked), shape in zip(plan.pieces, plan.shapes, strict=True):
        for piece in pieces:
            shapes[piece.name] = tuple(_expected(piece, shape[1:] if stacked else shape, extents))
    return shapes


def _check(architecture: Architecture, held: Tensors, config: Any, plan: _Plan) -> None:
    """Raises `ValueError` unless there is each tensor, of numbers and of the right shape, and no other."""
    extents, known = _extents(plan), {*held.names()}
    used: set[str] = set()
    for (pieces, stacked), shape in zip(plan.pieces, plan.shapes, strict=True):
        for piece in pieces:
            if piece.name not in known:
                raise ValueError(f"{held.place(piece.name)} is missing")
            want = _expected(piece, shape[1:] if stacked else shape, extents)
            if list(held.shape(piece.name)) != want:
                raise ValueError(
                    f"{held.place(piece.name)} has shape {list(held.shape(piece.name))}, expected {want}"
                )
            if held.dtype(piece.name) not in FLOATS:
                raise ValueError(
                    f"{held.place(piece.name)} holds {held.dtype(piece.name)}, only {', '.join(FLOATS)} are supported"
                )
            used.add(piece.name)
    unknown = {name for name in known - used if not architecture.ignored(name, config)}
    if unknown:
        first = min(unknown)
        raise ValueError(
            f"{held.place(first)} is unknown to {architecture.name} with this configuration ({len(unknown)} such)"
        )


def _read(
    held: Tensors, plan: tuple[tuple[Stored, ...], bool], shape: tuple[int, ...], dtype: Any
) -> np.ndarray:
    """One parameter in host memory."""
    pieces, stacked = plan

    def one(piece: Stored, shape: tuple[int, ...]) -> Any:
        index: tuple[slice, ...] = ()
        if piece.part is not None:
            index = (*(slice(None),) * piece.axis, slice(*piece.part))
        x = held.read(piece.name, index)
        return x.T if piece.transposed else x.reshape(shape)

    if not stacked:
        return np.asarray(one(pieces[0], shape)).astype(dtype, copy=False)
    whole = np.empty(shape, dtype)
    for row, piece in zip(whole, pieces, strict=True):
        row[...] = one(piece, shape[1:])
    return whole


def to_tensors(architecture: Architecture, params: Params, config: Any) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint by name: the inverse of `from_tensors`.

    Raises:
      ValueError: naming the tensor, if `params` does not fit `config`.
    """
    parts: dict[str, list[tuple[Stored, np.ndarray]]] = {}
    for path, x in jax.tree_util.tree_leaves_with_path(params):
        pieces, stacked = _pieces(architecture.stored(_path(path), config))
        for piece, y in zip(pieces, np.asarray(x) if stacked else [np.asarray(x)], strict=True):
            y = y.T if piece.transposed else y.reshape(piece.shape or y.shape)
            parts.setdefault(piece.name, []).append((piece, y))
    tensors = {}
    for name, several in parts.items():
        several.sort(key=lambda part: part[0].part or (0, 0))
        arrays = [y for _, y in several]
        whole = len(arrays) == 1
        tensors[name] = arrays[0] if whole else np.concatenate(arrays, axis=several[0][0].axis)
    held = InMemory(tensors)
    _check(architecture, held, config, _plan(architecture, config, held))
    return tensors
