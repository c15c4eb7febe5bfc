"""A corpus that every machine with Python already has: the sources of the running interpreter.

The standard library (without test suites and generated tables), and if asked the packages installed beside it, read in
a fixed order and split by file: a file is held out iff the hash of its name says so, so that adding files moves no
other file across the split.
"""

import dataclasses
import hashlib
import sysconfig
from pathlib import Path

import numpy as np

from jaxdec import text

# Installed packages, then test suites and generated tables: the library proper is what people write.
_SKIPPED = frozenset(
    [
        "site-packages",
        "dist-packages",
        "__pycache__",
        "test",
        "tests",
        "idle_test",
        "idlelib",
        "turtledemo",
        "lib2to3",
        "encodings",
        "pydoc_data",
    ]
)
_MAX_BYTES = 1_000_000


@dataclasses.dataclass(frozen=True)
class Source:
    """One file: a name relative to its root, and its bytes (valid UTF-8)."""

    name: str
    content: bytes


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Files split into train and held-out.

    Attributes:
      train: files to learn from.
      held_out: files never trained on.
    """

    train: tuple[Source, ...]
    held_out: tuple[Source, ...]

    def fingerprint(self) -> str:
        """A hash of all names and contents: equal corpora have equal fingerprints."""
        digest = hashlib.sha256()
        for part in (self.train, self.held_out):
            for source in part:
                digest.update(source.name.encode() + b"\0" + source.content + b"\0")
            digest.update(b"\1")
        return digest.hexdigest()[:16]

    def train_stream(self) -> np.ndarray:
        """All training files as one int16 array `[n]`: BOS, bytes, EOS, BOS, ..."""
        return stream(self.train)

    def held_out_stream(self) -> np.ndarray:
        """All held-out files as one int16 array `[n]`."""
        return stream(self.held_out)


def stream(sources: tuple[Source, ...]) -> np.ndarray:
    """Files as one int16 array `[n]`, each between `BOS` and `EOS`."""
    parts = []
    for source in sources:
        body = np.frombuffer(source.content, np.uint8)
        parts += [np.array([text.BOS]), body, np.array([text.EOS])]
    return np.concatenate(parts).astype(np.int16) if parts else np.zeros(0, np.int16)


def is_held_out(name: str, fraction: float) -> bool:
    """Whether a file is held out: its hash, as a number in [0, 1), lies below `fraction`."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < fraction


def read_sources(root: Path, skipped: frozenset[str] = frozenset()) -> list[Source]:
    """All readable Python files below `root` that are valid UTF-8 (as is the name), not empty and up to 1 MB, by name.

    Args:
      root: a folder.
      skipped: names of folders to leave out.
    """
    found = []
    for path in root.rglob("*.py"):
        relative = path.relative_to(root)
        if skipped.intersection(relative.parts[:-1]):
            continue
        name = relative.as_posix()
        try:
            if not path.is_file():
                continue
            content = path.read_bytes()
            content.decode("utf-8")
            name.encode("utf-8")
        except (OSError, UnicodeError):
            continue
        if content.strip() and len(content) <= _MAX_BYTES:
            found.append(Source(name, content))
    return sorted(found, key=lambda source: source.name)


def python_sources(*, packages: bool = False, held_out: float = 0.05) -> Corpus:
    """Collects the Python sources of the running interpreter.

    Args:
      packages: also the packages installed beside the interpreter.
      held_out: fraction of the files that are held out, by a hash of their name.

    Raises:
      ValueError: if `held_out` is not in (0, 1) or no source is found.
    """
    _check_fraction(held_out)
    paths = sysconfig.get_paths()
    sources = read_sources(Path(paths["stdlib"]), _SKIPPED)
    if packages:
        for root in dict.fromkeys([paths["purelib"], paths["platlib"]]):
            found = read_sources(Path(root), frozenset({"__pycache__", "jaxdec"}))
            sources += [Source(f"packages/{s.name}", s.content) for s in found]
    if not sources:
        raise ValueError(f"no Python sources below {paths['stdlib']}")
    return split(sources, held_out)


def folder_sources(root: Path, *, held_out: float = 0.05) -> Corpus:
    """Collects the Python sources below a folder.

    Args:
      root: the folder.
      held_out: fraction of the files that are held out, by a hash of their name.

    Raises:
      ValueError: if `held_out` is not in (0, 1) or no source is found.
    """
    _check_fraction(held_out)
    sources = read_sources(Path(root))
    if not sources:
        raise ValueError(f"no Python sources below {root}")
    return split(sources, held_out)


def split(sources: list[Source], held_out: float) -> Corpus:
    """Splits files by the hashes of their names."""
    return Corpus(
        train=tuple(s for s in sources if not is_held_out(s.name, held_out)),
        held_out=tuple(s for s in sources if is_held_out(s.name, held_out)),
    )


def _check_fraction(held_out: float) -> None:
    if not 0 < held_out < 1:
        raise ValueError(f"held_out must lie in (0, 1), got {held_out}")


def crops(stream: np.ndarray, *, batch: int, length: int, seed: int, step: int) -> np.ndarray:
    """Random windows int32 `[batch, length + 1]` of a stream, a pure function of `(seed, step)`.

    Raises:
      ValueError: if the stream is shorter than one window.
    """
    if len(stream) <= length:
        raise ValueError(f"a stream of {len(stream)} tokens has no window of {length + 1}")
    generator = np.random.default_rng((seed, step))
    starts = generator.integers(0, len(stream) - length, size=batch)
    return stream[starts[:, None] + np.arange(length + 1)].astype(np.int32)


def spread(stream: np.ndarray, length: int, windows: int, batch: int) -> np.ndarray:
    """Windows int32 `[N, batch, length + 1]` at even distances, at most `windows` of them in all, but one batch.

    Raises:
      ValueError: if the stream is shorter than one window.
    """
    size = length + 1
    if len(stream) < size:
        raise ValueError(f"a stream of {len(stream)} tokens has no window of {size}")
    count = max(1, min(windows, len(stream) // size) // batch)
    starts = np.linspace(0, len(stream) - size, count * batch).astype(int).reshape(count, batch)
    return np.asarray(stream)[starts[..., None] + np.arange(size)].astype(np.int32)
