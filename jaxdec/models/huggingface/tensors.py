"""Tensors of a folder of safetensors files: read one by one, and written in the same layout.

Needs the `hf` extra.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path as File
from typing import Any, Protocol

import numpy as np

from jaxdec.files import read_json

INDEX = "model.safetensors.index.json"
NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Types of tensors as the files call them, those that parameters may have."""


class Tensors(Protocol):
    """Tensors by name, of which parts can be read."""

    def names(self) -> list[str]:
        """All names."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one tensor."""
        ...

    def dtype(self, name: str) -> str:
        """Of one tensor, as NumPy calls it."""
        ...

    def read(self, name: str, index: tuple[slice, ...] = ()) -> np.ndarray:
        """One tensor, or a part of it."""
        ...

    def place(self, name: str) -> str:
        """Where it stands, or should stand, for messages."""
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

    def dtype(self, name: str) -> str:
        """Of one tensor, as NumPy calls it."""
        return np.dtype(self._tensors[name].dtype).name

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

    def dtype(self, name: str) -> str:
        """Of one tensor, as NumPy calls it."""
        return self._tensors.dtype(self._own[name])

    def read(self, name: str, index: tuple[slice, ...] = ()) -> np.ndarray:
        """One tensor, or a part of it."""
        return self._tensors.read(self._own[name], index)

    def place(self, name: str) -> str:
        """Where it stands, for messages."""
        return self._tensors.place(self._own.get(name, name))


class Folder:
    """Tensors of the safetensors files of a folder, through a memory map that is opened anew every `MAPPED` bytes.

    Pages of a map count as memory in use once they were read, until it is closed; and to open a file of thousands of
    tensors takes milliseconds.

    Raises:
      ValueError: if there is no such file, one is missing or cut off, or weights are pickled.
    """

    MAPPED = 64 * 2**20

    def __init__(self, folder: File):
        self._folder = folder
        self._files: dict[str, File] = {}
        self._facts: dict[str, tuple[tuple[int, ...], str]] = {}
        self._mapped: tuple[File, Any] | None = None
        self._read = 0
        for file in _files(folder):
            with _open(file) as held:
                for name in held.keys():  # noqa: SIM118, it is no dict
                    if name in self._files:
                        raise ValueError(
                            f"tensor {name!r} stands in {self._files[name]} and {file}"
                        )
                    fact = held.get_slice(name)
                    dtype = NAMES.get(fact.get_dtype(), fact.get_dtype())
                    self._files[name] = file
                    self._facts[name] = (tuple(fact.get_shape()), dtype)

    def names(self) -> list[str]:
        """All names."""
        return list(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one tensor."""
        return self._facts[name][0]

    def dtype(self, name: str) -> str:
        """Of one tensor, as NumPy calls it."""
        return self._facts[name][1]

    def read(self, name: str, index: tuple[slice, ...] = ()) -> np.ndarray:
        """One tensor, or a part of it."""
        file = self._files[name]
        if self._mapped is None or self._mapped[0] != file or self._read > self.MAPPED:
            self._mapped = None  # closed before the next one is opened
            self._mapped, self._read = (file, _open(file)), 0
        held = self._mapped[1]
        x = held.get_slice(name)[index] if index and self.shape(name) else held.get_tensor(name)
        self._read += x.nbytes
        return x

    def place(self, name: str) -> str:
        """Where it stands, for messages."""
        return f"{self._files.get(name, self._folder)}: tensor {name!r}"


def _files(folder: File) -> list[File]:
    """The files of a checkpoint: those that the index names, else all."""
    index = folder / INDEX
    if index.is_file():
        try:
            named = {*map(str, read_json(index)["weight_map"].values())}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{index} has no weight_map") from None
        for name in sorted(named):
            if not name or File(name).name != name:
                raise ValueError(f"{index} names {name!r}, which is no file of its folder")
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
