"""TPUs and their published figures.

Source: the system architecture pages of Google Cloud's TPU documentation (v4, v5e, v5p, v6e), figures a chip: memory
and its bandwidth, peak arithmetic in bfloat16, and what it can send over all its links: half of what the pages give for
both directions. What a program gets of the memory is what the compiler allows.
"""

import dataclasses
import math
import re

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """What one chip can do.

    Attributes:
      name: as topologies begin with.
      memory: bytes.
      usable: bytes of it that a program gets: the rest is the system's.
      bandwidth: of the memory, bytes a second.
      flops: bfloat16 operations a second.
      links: bytes a second that it sends to other chips at most, over all links.
      dimensions: of a topology.
    """

    name: str
    memory: int
    usable: int
    bandwidth: float
    flops: float
    links: float
    dimensions: int

    @property
    def slices(self) -> tuple[str, ...]:
        """Topologies that there are, with fewest chips first."""
        return tuple(f"{self.name}:{shape}" for shape in _SLICES[self.dimensions])


_SLICES = {
    2: ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
    3: ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8"),
}
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", 32 * GIB, 61 * GIB // 2, 1228e9, 275e12, 300e9, 3),
        Chip("v5e", 16 * GIB, 63 * GIB // 4, 819e9, 197e12, 200e9, 2),
        Chip("v5p", 95 * GIB, 95 * GIB, 2765e9, 459e12, 600e9, 3),
        Chip("v6e", 32 * GIB, 125 * GIB // 4, 1640e9, 918e12, 400e9, 2),
    )
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """Chips in a mesh.

    Attributes:
      chip: of which kind.
      shape: chips along each dimension.
    """

    chip: Chip
    shape: tuple[int, ...]

    @property
    def chips(self) -> int:
        """How many chips there are."""
        return math.prod(self.shape)

    @property
    def name(self) -> str:
        """As it is written: `v5e:4x4`."""
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def compiled(self) -> str:
        """The topology that the compiler is asked for: it knows no single chip, which is one of a larger mesh."""
        if self.chips > 1:
            return self.name
        return f"{self.chip.name}:{'x'.join(['2', '2', '1'][: self.chip.dimensions])}"

    @classmethod
    def parse(cls, text: str) -> "Topology":
        """Reads `v5e:4x4`.

        Raises:
          ValueError: for chips that are not known, or a shape that is none of theirs.
        """
        name, _, shape = text.partition(":")
        if name not in CHIPS:
            raise ValueError(
                f"there is no TPU {name!r} in topology {text!r}, only {', '.join(CHIPS)}"
            )
        chip = CHIPS[name]
        if (
            not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", shape)
            or shape.count("x") + 1 != chip.dimensions
        ):
            example = "x".join(["2"] * chip.dimensions)
            raise ValueError(
                f"topology {text!r} must be like {name}:{example}: {chip.dimensions} sizes of at least 1"
            )
        return cls(chip, tuple(map(int, shape.split("x"))))
