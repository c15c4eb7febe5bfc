"""What loops of compiled programs communicate, copy and run: what tests of compiled decodes ask for."""

from collections.abc import Iterable

from jaxdec.planning.counts import COLLECTIVES
from jaxdec.planning.hlo import Instruction, Program

LARGE = 2**20
"""Numbers in an array whose copies are listed."""


def facts(text: str) -> dict[str, object]:
    """What the loops of a compiled program communicate, copy and run.

    Args:
      text: `compiled.as_text()`.

    Returns:
      `loops`: how many there are; `in_loops` and `anywhere`: collective operations, such as `all-reduce bf16[8,1,512]`;
      `copied_in_loops`: shapes of large arrays that are copied, or moved to another memory; `kernels_in_loops`: their
      names.
    """
    program = Program.read(text)
    inner = list(program.looped())
    every = [made for held in program.computations.values() for made in held.values()]
    return {
        "loops": len(program.loops),
        "in_loops": _communicating(inner),
        "anywhere": _communicating(every),
        "copied_in_loops": [
            list(made.arrays[0].shape)
            for made in inner
            if made.opcode in ("copy", "copy-start") and made.arrays[0].numbers >= LARGE
        ],
        "kernels_in_loops": [made.kernel for made in inner if made.kernel],
    }


def _communicating(instructions: Iterable[Instruction]) -> list[str]:
    """Each collective operation with the shapes of what it makes."""
    found = []
    for made in instructions:
        operation = made.opcode.removesuffix("-start")
        if operation in COLLECTIVES:
            shapes = (f"{x.kind}[{','.join(map(str, x.shape))}]" for x in made.arrays)
            found.append(" ".join([operation, *shapes]))
    return found
