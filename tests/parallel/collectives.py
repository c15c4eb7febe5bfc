"""What a compiled program communicates, read from its text."""

import math
import re
from typing import NamedTuple

KINDS = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
    "reduce-scatter",
)
SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4}
ARRAY = re.compile(r"\b(pred|[a-z]+\d+)\[([\d,]*)\]")


class Collective(NamedTuple):
    """A kind, the bytes of its result on each device, and how often a run of the program does it."""

    kind: str
    bytes: int
    times: int


def collectives(text: str) -> list[Collective]:
    """All of a compiled program's; a loop whose trips are not known counts once."""
    found, computation, trips = [], None, {}
    for line in text.splitlines():
        if not line.startswith(" ") and line.rstrip().endswith("{"):
            computation = line.removeprefix("ENTRY ").split()[0].strip("%")
        operation = re.search(r" = (.*?) ([a-z\-]+)\(", line)
        if operation is None:
            continue
        result, name = operation.groups()
        if name == "while":
            body = re.search(r"body=%?([\w.\-]+)", line)
            count = re.search(r'"known_trip_count":\{"n":"(\d+)"', line)
            trips[body[1]] = int(count[1]) if count else 1
        kind = name.removesuffix("-start")
        if kind in KINDS:
            found.append((computation, kind, _bytes(result)))
    return [Collective(kind, size, trips.get(where, 1)) for where, kind, size in found]


def total(found: list[Collective], kind: str | None = None) -> int:
    """Bytes of all results of a kind, or of every kind."""
    return sum(c.bytes * c.times for c in found if kind in (None, c.kind))


def counts(found: list[Collective]) -> dict[str, int]:
    """How often each kind is done."""
    kinds = {c.kind for c in found}
    return {kind: sum(c.times for c in found if c.kind == kind) for kind in sorted(kinds)}


def _bytes(result: str) -> int:
    arrays = ARRAY.findall(result)
    return sum(SIZES[t] * math.prod(map(int, filter(None, dims.split(",")))) for t, dims in arrays)
