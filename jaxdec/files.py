"""Files that are written whole or not at all, and the hashes of a folder's files."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

SUMS = "SHA256SUMS"
"""The file of a folder that holds the hashes of the others, in the form that `sha256sum --check` reads."""


def from_json(content: str | bytes) -> Any:
    """What a text in JSON holds.

    Raises:
      ValueError: if it is no JSON, or nested deeper than Python reads.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file.

    Raises:
      ValueError: if it holds none.
    """
    try:
        held = from_json(path.read_bytes())
    except ValueError:
        held = None
    if not isinstance(held, dict):
        raise ValueError(f"{path} is not a JSON object")
    return held


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Writes a file whole or not at all; one that is there is replaced and keeps its permissions.

    Args:
      path: the file; of a link, what it leads to is written.
      content: a string is encoded as UTF-8.

    Raises:
      OSError: if it cannot be written; the file is then as it was.
    """
    path = Path(path).resolve()
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)
        if path.exists():
            shutil.copymode(path, draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Gives a folder to write to, which takes the place of `path` when all is written.

    Args:
      path: a folder that does not exist or is empty.
      replace: whether it may hold something, which is gone then.

    Raises:
      OSError: if it cannot take the place; nothing is changed then.
    """
    path = path.absolute()
    draft, old = (path.with_name(f".{path.name}.{what}") for what in ("part", "old"))
    for left in (draft, old):
        shutil.rmtree(left, ignore_errors=True)  # by a process that was killed
    draft.mkdir(parents=True)
    try:
        yield draft
        if path.exists() and replace:
            path.rename(old)
        elif path.exists():
            path.rmdir()
        draft.rename(path)
    finally:
        for left in (draft, old):
            shutil.rmtree(left, ignore_errors=True)


def write_sums(folder: Path, names: Iterable[str]) -> None:
    """Writes the hashes of some files, or of all files below some folders.

    Args:
      folder: gets the file `SHA256SUMS`.
      names: relative to `folder`.
    """
    found = _files(folder, names)
    lines = (f"{_sum(file)}  {file.relative_to(folder).as_posix()}\n" for file in found)
    write_whole(folder / SUMS, "".join(lines))


def check_sums(folder: Path, names: Iterable[str]) -> None:
    """Compares the files of a folder with its `SHA256SUMS`.

    Args:
      folder: holds the list.
      names: relative to `folder`, of files and of folders all of whose files must be listed but hidden ones.

    Raises:
      ValueError: naming the first file that is missing, has other content or is not listed, or if there is no such
        list.
    """
    if not (folder / SUMS).is_file():
        raise ValueError(f"it has no {SUMS}, the hashes of its files")
    listed = set()
    for line in (folder / SUMS).read_text(errors="replace").splitlines():
        held, _, name = line.partition("  ")
        file = folder / name
        if not name:
            raise ValueError(f"its {SUMS} holds a line that is none")
        if not file.is_file():
            raise ValueError(f"{name}, a file of its {SUMS}, is missing")
        if _sum(file) != held:
            raise ValueError(f"{name} has another hash than its {SUMS} says")
        listed.add(name)
    for file in _files(folder, names):
        name = file.relative_to(folder).as_posix()
        if name not in listed and not file.name.startswith("."):
            raise ValueError(f"{name} is not in its {SUMS}")


def _files(folder: Path, names: Iterable[str]) -> list[Path]:
    """Some files, and all below some folders."""
    found = []
    for path in (folder / name for name in names):
        found += [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sorted(found)


def _sum(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
