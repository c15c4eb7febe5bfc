"""Folders in the layout of Hugging Face, damaged and edited: safetensors, their index, configurations and tokenizers.

These files carry no hashes: numbers that are changed in place are other numbers. So tensors are damaged by headers,
lengths, names, shapes and types. What loads holds the tensors that were saved, bit for bit; all else is refused.
"""

import dataclasses
import functools
import struct
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from jaxdec import checkpoints
from jaxdec.model import from_nnx
from jaxdec.models import huggingface
from tests.fuzz.damage import MOVES, Damage, Edit, copied, damages, do, edits, files_of
from tests.fuzz.surface import REFUSED, TAKEN, Surface, check_message, mixed
from tests.models.huggingface import tiny
from tests.text import tokenizers_made

KINDS = ("llama with llama3", "mistral", "qwen2 with a window", "gemma3", "gpt2", "olmoe")
LARGEST = 30_000
"""Bytes of a file of weights: some folders hold several, with an index."""


@functools.cache
def root() -> Path:
    holder = tempfile.TemporaryDirectory()
    root.holder = holder  # type: ignore[attr-defined]  # removed at exit
    return Path(holder.name)


@functools.cache
def saved(name: str) -> Path:
    """A tiny checkpoint of an architecture, with a tokenizer."""
    fields = tiny.fields(name)
    if name == "llama with llama3":
        fields |= {"vocab_size": 420}
    kind = huggingface.of_fields(fields)
    config = kind.config(fields)
    rng = np.random.default_rng(0)
    make = lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32)
    params = jax.tree.map(make, from_nnx(kind.abstract(config))[1])
    path = root() / name.replace(" ", "-")
    huggingface.save(path, params, config, kind.name, fields=fields, largest=LARGEST)
    tokenizers_made.save(path, tokenizers_made.byte_level(), {"eos_token": "<|end|>"})
    return path


def loaded(path: Path) -> list[tuple[Any, ...]]:
    """The tensors, by path."""
    found = checkpoints.load(path)
    try:  # it is read when it is used: weights are loaded without it
        tokenizer = found.tokenizer
        if tokenizer is not None:
            ids = tokenizer.to_ids("def add(a, b):")
            tokenizer.decode(ids)
            tokenizer.pieces()
    except ValueError as error:
        check_message(error)
    leaves = jax.tree_util.tree_leaves_with_path(found.params)
    return [(jax.tree_util.keystr(at), np.asarray(x).tobytes()) for at, x in leaves]


@functools.cache
def original(name: str) -> list[tuple[Any, ...]]:
    return loaded(saved(name))


@dataclasses.dataclass(frozen=True)
class Case:
    """An architecture, and what is done to its folder.

    Attributes:
      name: of the checkpoint.
      other: whose files may take the place of its own.
      damages: of any file, but none of numbers in place.
      edit: of a JSON file.
      edited: which one.
      tensor: what is done to a tensor, by its number.
    """

    name: str
    other: str
    damages: tuple[Damage, ...] = ()
    edit: Edit | None = None
    edited: int = 0
    tensor: tuple[str, int] | None = None


def change(what: str, number: int, folder: Path) -> None:
    """Writes a file of weights again with another tensor."""
    files = sorted(folder.glob("*.safetensors"))
    file = files[number % len(files)]
    tensors = load_file(file)
    name = sorted(tensors)[number % len(tensors)]
    x = tensors.pop(name)
    tensors |= {
        "missing": lambda: {},
        "renamed": lambda: {name + "2": x},
        "one more": lambda: {name: x, "more": np.zeros(3, np.float32)},
        "flat": lambda: {name: x.reshape(-1)},
        "turned": lambda: {name: turned if (turned := x.T.copy()).shape != x.shape else x[1:]},
        "cut": lambda: {name: x[:-1]},
        "integers": lambda: {name: np.zeros(x.shape, np.int32)},
        "bits": lambda: {name: np.zeros(x.shape, bool)},
        "double": lambda: {name: x.astype(np.float64)},
        "in both files": lambda: {name: x, **load_file(files[0])},
        "scalar": lambda: {name: np.zeros((), np.float32)},
    }[what]()
    save_file(tensors, file)


TENSORS = ("missing", "renamed", "one more", "flat", "turned", "cut", "integers", "bits", "double", "in both files",
           "scalar")  # fmt: skip


def header(damage: Damage, folder: Path) -> None:
    """Damages a byte of the header of a file of weights."""
    files = sorted(folder.glob("*.safetensors"))
    file = files[damage.file % len(files)]
    content = bytearray(file.read_bytes())
    size = 8 + struct.unpack("<Q", content[:8])[0]
    content[min(int(damage.place * size), size - 1)] ^= damage.byte
    file.write_bytes(bytes(content))


def attempt(given: Case) -> str:
    expected = original(given.name)
    path = copied(saved(given.name), root() / "copy")
    for damage in given.damages:
        if damage.what == "a byte":
            header(damage, path)
        else:
            do(damage, path, saved(given.other))
    if given.edit is not None:
        files = [file for file in files_of(path) if file.suffix == ".json"]
        given.edit.do(files[given.edited % len(files)])
    if given.tensor is not None:
        change(*given.tensor, path)
    try:
        found = loaded(path)
    except ValueError as error:
        check_message(error)
        return REFUSED
    same = found == expected
    assert same, f"{given} loads as something else"
    return TAKEN


_safe = ("a byte", "cut off", "longer", "nested", "noise", *MOVES)
_pair = (st.sampled_from(KINDS), st.sampled_from(KINDS))
_any = lambda draw: st.builds(Case, *_pair, st.lists(draw, min_size=1, max_size=2).map(tuple))
inputs = mixed(
    (5, _any(damages(_safe))),
    (2, st.builds(Case, *_pair, edit=edits, edited=st.integers(0, 4))),
    (3, st.builds(Case, *_pair, tensor=st.tuples(st.sampled_from(TENSORS), st.integers(0, 40)))),
)

SURFACE = Surface(
    name="public folders",
    about="folders of safetensors, six architectures: headers, tensors, indices, configurations and tokenizers",
    inputs=inputs,
    attempt=attempt,
    short=30,
    slow=300,
    long=500,
    part=50,
)
