"""Tensors of a folder of safetensors files: read one by one, and written in the same layout.

Needs the `hf` extra.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path as File
from typing import Any, Protocol

import numpy as np

INDEX = "model.safetensors.index.json"


class Tensors(Protocol):
    """Tensors by name, of which parts can be read."""

    def names(self) -> list[str]:
        """All names."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one tensor."""
        ...

    def read(self, name: str, index: tuple[slice, ...] = ()) -> np.ndarray:
        """One tensor, or a part of it."""
        ...

    def place(self, name: str) -> str:
        """Where it stands, for messages."""
        ...


class InMemory:
    """Tensors of a dict."""

    def __init__(self, tensors: Mapping[str, Any]):
        self._tensors = tensors

    def names(self) -> list[str]:
        """All names."""
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one tensor."""
        return tuple(self._tensors[name].shape)

    def read(self, name: str, index: tuple[slice, ...] = ()) -> Any:
        """One tensor, or a part of it."""
        return self._tensors[name][index]

    def place(self, name: str) -> str:
        """Where it stands, for messages."""
        return f"tensor {name!r}"


class Renamed:
    """Tensors of older files by the names that they have today."""

    def __init__(self, tensors: Tensors, today: Callable[[str], str]):
        self._tensors, self._own = tensors, {today(name): name for name in tensors.names()}

    def names(self) -> list[str]:
        """All names."""
        return list(self._own)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one tensor."""
        return self._tensors.shape(self._own[name])

    def read(self, name: str, index: tuple[slice, ...] = ()) -> np.ndarray:
        """One tensor, or a part of it."""
        return self._tensors.read(self._own[name], index)

    def place(self, name: str) -> str:
        """Where it stands, for messages."""
        return self._tensors.place(self._own[name])


class Folder:
    """Tensors of the safetensors files of a folder, through memory maps that are held while one tensor is read.

    Raises:
      ValueError: if there is no such file, one is missing or cut off, or weights are pickled.
    """

    def __init__(self, folder: File):
        self._files: dict[str, File] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        for file in _files(folder):
            with _open(file) as held:
                for name in held.keys():  # noqa: SIM118, it is no dict
                    if name in self._files:
                        raise ValueError(
                            f"tensor {name!r} stands in {self._files[name]} and {file}"
                        )
                    self._files[name] = file
                    self._shapes[name] = tuple(held.get_slice(name).get_shape())

    def names(self) -> list[str]:
        """All names."""
        return list(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one tensor."""
        return self._shapes[name]

    def read(self, name: str, index: tuple[slice, ...] = ()) -> np.ndarray:
        """One tensor, or a part of it; the map is closed again, so that its pages do not count as memory in use."""
        with _open(self._files[name]) as held:
            if not index or not self._shapes[name]:
                return held.get_tensor(name)
            return held.get_slice(name)[index]

    def place(self, name: str) -> str:
        """Where it stands, for messages."""
        return f"{self._files[name]}: tensor {name!r}"


def _files(folder: File) -> list[File]:
    """The files of a checkpoint: those that the index names, else all."""
    index = folder / INDEX
    if index.is_file():
        try:
            named = {*json.loads(index.read_bytes())["weight_map"].values()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{index} has no weight_map") from None
        for name in sorted(named):
            if not (folder / name).is_file():
                raise ValueError(f"{folder / name}, which {INDEX} names, is missing")
        return [folder / name for name in sorted(named)]
    found = sorted(folder.glob("*.safetensors"))
    single = folder / "model.safetensors"
    if single in found:  # beside it stand copies in other layouts
        return [single]
    if not found:
        pickled = sorted([*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")])
        if pickled:
            raise ValueError(
                f"{pickled[0]} is pickled, and to unpickle a file runs what it says: convert it, where it is trusted, "
                "by torch.load(file, weights_only=True) and safetensors.torch.save_file to model.safetensors"
            )
        raise ValueError(f"{folder} must hold a config.json and at least one *.safetensors file")
    return found


def _open(file: File) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(file, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is damaged or cut off: {error}") from None


def write(folder: File, tensors: Mapping[str, Any], *, largest: int = 5 * 2**30) -> None:
    """Writes tensors as one file, or as several with an index where they are more than `largest` bytes."""
    from safetensors.numpy import save_file

    parts = list(_parts(tensors, largest))
    names = ["model.safetensors"]
    if len(parts) > 1:
        names = [f"model-{i + 1:05}-of-{len(parts):05}.safetensors" for i in range(len(parts))]
        index = {
            "metadata": {"total_size": sum(x.nbytes for x in tensors.values())},
            "weight_map": {
                key: name for name, part in zip(names, parts, strict=True) for key in part
            },
        }
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    for name, part in zip(names, parts, strict=True):
        arrays = {key: np.ascontiguousarray(part[key]) for key in part}
        save_file(arrays, folder / name, metadata={"format": "pt"})


def _parts(tensors: Mapping[str, Any], largest: int) -> Iterator[dict[str, Any]]:
    part: dict[str, Any] = {}
    held = 0
    for name, x in tensors.items():
        if part and held + x.nbytes > largest:
            yield part
            part, held = {}, 0
        part[name] = x
        held += x.nbytes
    yield part
