"""Ways to damage a folder of files, as data: what is done to which file is drawn, then done to a copy."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from hypothesis import strategies as st


@dataclasses.dataclass(frozen=True)
class Damage:
    """One thing that is done.

    Attributes:
      what: a name in `DONE`.
      file: the number of a file, counted over the sorted files; taken modulo their number.
      other: of a second one.
      place: where in the file, from 0 to 1.
      byte: what is put there, or a number of bytes.
    """

    what: str
    file: int = 0
    other: int = 0
    place: float = 0.0
    byte: int = 1


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def copied(folder: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    return shutil.copytree(folder, to)


def _changed(damage: Damage, path: Path, other: Path, foreign: Path) -> None:
    content = bytearray(path.read_bytes())
    at = min(int(damage.place * len(content)), max(len(content) - 1, 0))
    if damage.what == "a byte" and content:
        content[at] ^= damage.byte
    elif damage.what == "cut off":
        del content[at:]
    elif damage.what == "cut out":
        del content[at : at + damage.byte]
    elif damage.what == "longer":
        content += bytes(damage.byte)
    elif damage.what == "noise":
        content[:] = bytes((damage.byte * i) % 251 for i in range(64))
    elif damage.what == "nested":
        content[:] = b'{"a":' * 30_000
    path.write_bytes(bytes(content))


def _moved(damage: Damage, path: Path, other: Path, foreign: Path) -> None:
    if damage.what == "gone":
        path.unlink()
    elif damage.what == "exchanged":
        one, two = path.read_bytes(), other.read_bytes()
        path.write_bytes(two)
        other.write_bytes(one)
    elif damage.what == "another's":
        if foreign.is_file():
            path.write_bytes(foreign.read_bytes())
    elif damage.what == "renamed":
        path.rename(path.with_name(f"{path.name}.{damage.byte}"))
    elif damage.what == "a folder":
        path.unlink()
        path.mkdir()
    elif damage.what == "one more":
        path.with_name(f"{damage.byte}{path.suffix}").write_bytes(path.read_bytes())


CHANGES = ("a byte", "cut off", "cut out", "longer", "noise", "nested")
MOVES = ("gone", "exchanged", "another's", "renamed", "a folder", "one more")


def do(damage: Damage, folder: Path, foreign: Path) -> Path | None:
    """Damages a folder, and gives the file; what is another's is taken from the same place of `foreign`."""
    files = files_of(folder)
    if not files:
        return None
    path, other = files[damage.file % len(files)], files[damage.other % len(files)]
    theirs = foreign / path.relative_to(folder)
    (_changed if damage.what in CHANGES else _moved)(damage, path, other, theirs)
    return path


def damages(names: tuple[str, ...] = (*CHANGES, *MOVES)) -> st.SearchStrategy:
    return st.builds(
        Damage,
        st.sampled_from(names),
        st.integers(0, 40),
        st.integers(0, 40),
        st.floats(0, 1, width=16),
        st.integers(1, 255),
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=4)
    | st.sampled_from([0, 1, -1, 8, 64, 260, "float32", "bfloat16", "int8", "silu", "full_attention", 1e400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Edit:
    """A field of a JSON file that becomes another value, or goes.

    Attributes:
      field: the number of a field, over those of all levels.
      value: what it becomes.
      gone: whether it goes instead.
    """

    field: int
    value: Any = None
    gone: bool = False

    def do(self, file: Path) -> None:
        held = json.loads(file.read_text())
        places = list(_places(held))
        inside, key = places[self.field % len(places)]
        if self.gone:
            del inside[key]
        else:
            inside[key] = self.value
        file.write_text(json.dumps(held))


def _places(held: Any):
    """Every key of every object, with the object."""
    if isinstance(held, dict):
        for key in sorted(held):
            yield held, key
        for key in sorted(held):
            yield from _places(held[key])


edits = st.builds(Edit, st.integers(0, 60), json_values, st.booleans())
