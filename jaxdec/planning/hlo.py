"""Compiled programs as the compiler prints them: computations of instructions, with what each makes and reads.

Only what plans and tests need of the text is read: names, shapes, memory spaces, operands and a few attributes.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterable, Iterator

_SIZES = {"pred": 1.0, "token": 0.0, "s4": 0.5, "u4": 0.5, "s2": 0.25, "u2": 0.25}
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\](?:\{([^{}]*)\})?")
_OPENED = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_MADE = re.compile(r"\s*(ROOT )?%?([\w.\-]+) = ")
_NAME = re.compile(r"%([\w.\-]+)")


@dataclasses.dataclass(frozen=True)
class Array:
    """An array of a program.

    Attributes:
      kind: of its numbers, such as `bf16`.
      shape: its dimensions, of one device.
      fast: whether it lies in a memory beside the main one (on a TPU, that of the vector unit).
    """

    kind: str
    shape: tuple[int, ...]
    fast: bool = False

    @property
    def numbers(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Its bytes without padding, wherever it lies."""
        bits = re.search(r"\d+", self.kind)
        size = _SIZES.get(self.kind, int(bits[0]) / 8 if bits else 0.0)
        return math.ceil(self.numbers * size)

    @property
    def main_bytes(self) -> int:
        """Its bytes if it lies in the main memory, else 0."""
        return 0 if self.fast else self.nbytes


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of a computation.

    Attributes:
      name: unique in the program.
      arrays: what it makes; several for a tuple.
      opcode: such as `fusion`.
      operands: names of what it reads, in order.
      rest: the attributes behind the operands, as they are printed.
      root: whether it is the result of its computation.
      inside: what stands between the parentheses, for parameters and constants.
    """

    name: str
    arrays: tuple[Array, ...]
    opcode: str
    operands: tuple[str, ...]
    rest: str
    root: bool
    inside: str

    def named(self, attribute: str) -> str | None:
        """The computation that an attribute names: `calls`, `body`, `condition`, `to_apply`."""
        found = re.search(rf"\b{attribute}=%?([\w.\-]+)", self.rest)
        return found[1] if found else None

    @property
    def branches(self) -> list[str]:
        """The computations of a conditional, one of which runs."""
        many = re.search(r"branch_computations=\{([^}]*)\}", self.rest)
        if many:
            return _NAME.findall(many[1])
        two = [self.named("true_computation"), self.named("false_computation")]
        return [name for name in two if name]

    @property
    def kernel(self) -> str | None:
        """The name of the Pallas kernel that it runs, if it does."""
        if 'custom_call_target="tpu_custom_call"' not in self.rest:
            return None
        found = re.search(r'op_name="[^"]*?(\w+)/pallas_call', self.rest)
        return found[1] if found else ""


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program of one device.

    Attributes:
      computations: by name, each its instructions by name, in order.
      entry: the name of the one that runs.
    """

    computations: dict[str, dict[str, Instruction]]
    entry: str

    @classmethod
    def read(cls, text: str) -> "Program":
        """Reads `compiled.as_text()`.

        Raises:
          ValueError: if there is no entry computation in it.
        """
        computations: dict[str, dict[str, Instruction]] = {}
        held: dict[str, Instruction] | None = None
        entry = ""
        for line in text.splitlines():
            opened = _OPENED.match(line)
            if opened and " = " not in line.split("(", 1)[0]:
                held = computations.setdefault(opened[2], {})
                entry = opened[2] if opened[1] else entry
            elif line.startswith("}"):
                held = None
            elif held is not None and (made := _instruction(line)):
                held[made.name] = made
        if not entry:
            raise ValueError(f"no ENTRY computation in {len(text)} characters of a program")
        return cls(computations, entry)

    def reached(self, names: Iterable[str]) -> Iterator[str]:
        """Computations, and all that these call."""
        seen: set[str] = set()
        todo = list(names)
        while todo:
            name = todo.pop()
            if name in seen or name not in self.computations:
                continue
            seen.add(name)
            yield name
            for made in self.computations[name].values():
                todo += [
                    *filter(None, map(made.named, ("calls", "body", "condition", "to_apply"))),
                    *made.branches,
                ]

    @functools.cached_property
    def loops(self) -> list[Instruction]:
        """Every `while`, wherever it stands."""
        return [
            made
            for held in self.computations.values()
            for made in held.values()
            if made.opcode == "while"
        ]

    def looped(self) -> Iterator[Instruction]:
        """Every instruction that a `while` runs."""
        bodies = [name for loop in self.loops for name in (loop.named("body"),) if name]
        conditions = [name for loop in self.loops for name in (loop.named("condition"),) if name]
        for name in self.reached([*bodies, *conditions]):
            yield from self.computations[name].values()

    def trips(self, loop: Instruction) -> int:
        """How often a `while` runs that counts up to a constant; 1 for one that asks for anything else."""
        known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.rest)
        if known:
            return int(known[1])
        condition = self.computations.get(loop.named("condition") or "", {})
        root = next((made for made in condition.values() if made.root), None)
        if root is None or root.opcode != "compare" or "direction=LT" not in root.rest:
            return 1
        limits = [
            int(condition[name].inside)
            for name in root.operands
            if condition[name].opcode == "constant" and condition[name].inside.isdigit()
        ]
        return max(limits, default=1)

    def main_loop(self) -> Instruction:
        """The `while` that stands in no other and carries most: that of the decode.

        Raises:
          ValueError: if the program has no loop.
        """
        inner = {made.name for made in self.looped() if made.opcode == "while"}
        outer = [loop for loop in self.loops if loop.name not in inner]
        if not outer:
            raise ValueError("the program holds no loop")
        return max(outer, key=lambda loop: sum(array.nbytes for array in loop.arrays))


def arrays(text: str) -> tuple[Array, ...]:
    """The arrays of a type as it is printed."""
    found = []
    for kind, shape, layout in _ARRAY.findall(text):
        sizes = tuple(int(size.lstrip("<=")) for size in shape.split(",") if size)
        space = re.search(r"S\((\d+)\)", layout)
        found.append(Array(kind, sizes, space is not None and space[1] != "0"))
    return tuple(found)


def _instruction(line: str) -> Instruction | None:
    made = _MADE.match(line)
    if not made:
        return None
    text = line[made.end() :]
    end = _closed(text, 0) if text.startswith("(") else text.find(" ")
    if end < 0:
        return None
    opcode, paren, _ = text[end:].lstrip().partition("(")
    if not paren:
        return None
    start = text.index("(", end)
    close = _closed(text, start)
    inside = text[start + 1 : close - 1]
    return Instruction(
        made[2],
        arrays(text[:end]),
        opcode,
        tuple(_NAME.findall(inside)),
        text[close:],
        bool(made[1]),
        inside.strip(),
    )


def _closed(text: str, start: int) -> int:
    """Behind the parenthesis that closes the one at `start`; -1 if none does."""
    depth = 0
    for found in re.compile(r"[()]").finditer(text, start):
        depth += 1 if found[0] == "(" else -1
        if not depth:
            return found.end()
    return -1
