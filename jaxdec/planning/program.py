"""What a step of a compiled decode moves and computes, counted in its program.

The compiler's own analysis counts the body of every loop once and cannot look into kernels; arrays in the fast memory
count there like others. So bytes are counted here, instruction by instruction: what is read from the main memory and
what is written to it, slices by what they take, updates in place by what they change, loops by their trips; and of
kernels what their own index maps fetch (`jaxdec.planning.kernels`).
"""

import math
import re
from collections import Counter
from collections.abc import Callable

from jaxdec.planning.counts import COLLECTIVES, Collective, Counts
from jaxdec.planning.hlo import Array, Instruction, Program

_FREE = {
    "parameter",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "constant",
    "iota",
    "after-all",
    "partition-id",
    "replica-id",
    "opt-barrier",
    "copy-done",
    "slice-done",
    "async-done",
    "async-update",
    *(f"{name}-done" for name in COLLECTIVES),
}
"""What moves nothing itself: names for parts, and ends of what began before."""
_SLICES = ("dynamic-slice", "slice", "gather")

Kernel = Callable[[str, tuple[Array, ...], tuple[Array, ...]], tuple[int, int]]
"""Bytes and flops of a kernel, by its name, operands and results."""


def step_counts(program: Program, kernel: Kernel, *, widest: bool = False) -> Counts:
    """What one step of a decode does: the body of the program's main loop.

    Args:
      program: that holds the loop.
      kernel: what kernels move.
      widest: of a conditional count the branch that moves most; else the one that moves least, as in a usual step.

    Raises:
      ValueError: if there is no loop.
    """
    body = program.main_loop().named("body")
    assert body is not None
    return _Counter(program, kernel, widest).computation(body)


class _Counter:
    def __init__(self, program: Program, kernel: Kernel, widest: bool):
        self.program, self.kernel = program, kernel
        self.choose = max if widest else min

    def computation(self, name: str) -> Counts:
        total = Counts()
        held = self.program.computations[name]
        for made in held.values():
            if made.opcode not in _FREE:
                total += self.instruction(made, held)
        return total

    def instruction(self, made: Instruction, held: dict[str, Instruction]) -> Counts:
        operation = made.opcode.removesuffix("-start")
        if made.opcode == "while":
            body = made.named("body")
            assert body is not None
            return self.computation(body).repeated(self.program.trips(made))
        if made.opcode == "conditional":
            return self.choose(map(self.computation, made.branches), key=lambda x: x.nbytes)
        if made.opcode == "call":
            return self.computation(made.named("to_apply") or "")
        inputs = tuple(_only(held[name]) for name in made.operands if name in held)
        if made.kernel is not None:
            moved, flops = self.kernel(made.kernel, inputs, made.arrays)
            return Counts(Counter(kernels=moved), flops, kernels=Counter([made.kernel]))
        if made.opcode == "custom-call":
            return Counts()  # hints for the compiler, which move nothing
        if operation in COLLECTIVES:
            return self.collective(made, operation, inputs)
        if made.opcode in ("copy", "copy-start", "slice-start"):
            return Counts(Counter(copies=_copied(made, inputs)))
        called = made.named("calls")
        if made.opcode == "async-start" and called:
            return self.computation(called)
        if called is None:
            return Counts(Counter(other=_plain(made, inputs)), _flops(made, inputs))
        read = sum(
            0 if array.fast else self.read(called, number, array)
            for number, array in enumerate(inputs)
        )
        written = self.written(called, made.arrays)
        return Counts(Counter(other=read + written), self.fused_flops(called))

    def collective(self, made: Instruction, operation: str, inputs: tuple[Array, ...]) -> Counts:
        # What is under way names its operand beside its result.
        results = made.arrays[-1:] if made.opcode.endswith("-start") else made.arrays
        if made.opcode == "collective-permute-start":
            results = made.arrays[1:2]
        moved = sum(array.main_bytes for array in (*inputs, *results))
        kinds = tuple(sorted({array.kind for array in results}))
        nbytes = sum(array.nbytes for array in results)
        found = Collective(operation, kinds, nbytes, _group(made.rest))
        return Counts(Counter(collectives=moved), collectives=(found,))

    def read(self, name: str, number: int, array: Array) -> int:
        """Bytes that a fused computation reads of one of its parameters."""
        held = self.program.computations[name]
        own = next(
            made
            for made in held.values()
            if made.opcode == "parameter" and made.inside == str(number)
        )
        return min(array.nbytes, self._uses(held, own.name, array))

    def _uses(self, held: dict[str, Instruction], name: str, array: Array) -> int:
        total = 0
        for made in held.values():
            for place, operand in enumerate(made.operands):
                if operand != name:
                    continue
                called = made.named("calls")
                if made.opcode == "bitcast" or (called and self.renames(called, place)):
                    if made.root:
                        return array.nbytes
                    total += self._uses(held, made.name, array)
                elif made.opcode in _SLICES and place == 0:
                    total += made.arrays[0].nbytes
                elif made.opcode == "dynamic-update-slice" and place == 0:
                    continue
                elif made.opcode == "fusion" and called:
                    total += self.read(called, place, array)
                else:
                    return array.nbytes
        return total

    def renames(self, name: str, number: int) -> bool:
        """Whether a fused computation gives back one of its parameters, as it is or in another shape."""
        held = self.program.computations[name]
        made = next(made for made in held.values() if made.root)
        while made.opcode == "bitcast" and made.operands[0] in held:
            made = held[made.operands[0]]
        return made.opcode == "parameter" and made.inside == str(number)

    def written(self, name: str, results: tuple[Array, ...]) -> int:
        """Bytes that a fused computation writes: of an update in place what it changes."""
        held = self.program.computations[name]
        root = next(made for made in held.values() if made.root)
        if root.opcode == "tuple" and len(root.operands) == len(results):
            parts = [held[operand] for operand in root.operands]
        else:
            parts = [root] * len(results)
        total = 0
        for part, array in zip(parts, results, strict=True):
            while part.opcode == "bitcast" and part.operands[0] in held:
                part = held[part.operands[0]]
            if array.fast:
                continue
            called = part.named("calls")
            if part.opcode == "dynamic-update-slice":
                total += _only(held[part.operands[1]]).nbytes
            elif part.opcode == "fusion" and called and len(part.arrays) == 1:
                total += self.written(called, (array,))
            else:
                total += array.nbytes
        return total

    def fused_flops(self, name: str) -> float:
        """Of the matrix products in a fused computation."""
        held = self.program.computations[name]
        total = 0.0
        for made in held.values():
            called = made.named("calls")
            if made.opcode == "fusion" and called:
                total += self.fused_flops(called)
            elif made.opcode in ("convolution", "dot"):
                total += _flops(made, tuple(_only(held[operand]) for operand in made.operands))
        return total


def _only(made: Instruction) -> Array:
    """The array that an instruction makes; an empty one for a tuple, which moves nothing."""
    return made.arrays[0] if len(made.arrays) == 1 else Array("token", ())


def _copied(made: Instruction, inputs: tuple[Array, ...]) -> int:
    """Bytes that a copy, or the start of one, reads and writes; of a slice what it takes."""
    source = inputs[0]
    # A copy that is under way names itself before its source, a slice behind it.
    copy = made.arrays[1] if made.opcode == "slice-start" else made.arrays[0]
    return (0 if source.fast else copy.nbytes) + copy.main_bytes


def _plain(made: Instruction, inputs: tuple[Array, ...]) -> int:
    """Bytes that an instruction of its own reads and writes."""
    written = sum(array.main_bytes for array in made.arrays)
    if made.opcode in _SLICES:
        taken = 0 if inputs[0].fast else made.arrays[0].nbytes
        return taken + written + sum(array.main_bytes for array in inputs[1:])
    if made.opcode in ("dynamic-update-slice", "scatter"):
        change = inputs[-1 if made.opcode == "scatter" else 1]
        return change.main_bytes + (0 if made.arrays[0].fast else change.nbytes)
    return written + sum(array.main_bytes for array in inputs)


def _flops(made: Instruction, inputs: tuple[Array, ...]) -> float:
    """Of a matrix product, which the compiler for TPUs writes as a convolution."""
    if made.opcode == "dot":
        places = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", made.rest)
        sizes = [inputs[0].shape[int(place)] for place in places[1].split(",")] if places else []
        return 2.0 * made.arrays[0].numbers * math.prod(sizes)
    if made.opcode != "convolution":
        return 0.0
    labels = re.search(r"dim_labels=\w+_(\w+)->", made.rest)
    if labels is None:
        return 0.0
    contracted = inputs[1].shape[labels[1].index("i")]
    window = re.search(r"window=\{([^}]*)\}", made.rest)
    # Of a dilated or padded window one place is not zero: an axis of the batch.
    if window and not re.search("dilate|pad", window[1]):
        size = re.search(r"size=([\dx]+)", window[1])
        contracted *= math.prod(map(int, size[1].split("x"))) if size else 1
    return 2.0 * made.arrays[0].numbers * contracted


def _group(rest: str) -> int:
    """Devices that take part in one collective operation."""
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", rest)
    if listed:
        return len(listed[1].split(","))
    tiled = re.search(r"replica_groups=\[\d+,(\d+)\]", rest)
    if tiled:
        return int(tiled[1])
    pairs = re.search(r"source_target_pairs=\{(.*?)\}\}", rest)
    return 2 if pairs else 1
