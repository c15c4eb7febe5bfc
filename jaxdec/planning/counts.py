"""What a step moves, computes and sends: numbers that add up."""

import dataclasses
from collections import Counter

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
    "reduce-scatter",
    "ragged-all-to-all",
)


@dataclasses.dataclass(frozen=True)
class Collective:
    """Something that devices send one another.

    Attributes:
      operation: such as `all-reduce`.
      kinds: of the numbers.
      nbytes: of its result on a device.
      group: devices that take part in one.
      times: how often in a step.
    """

    operation: str
    kinds: tuple[str, ...]
    nbytes: int
    group: int
    times: int = 1

    @property
    def sent(self) -> float:
        """Bytes that a device sends at least, in all: in a ring of g devices `2 (g - 1) / g` of a sum's."""
        share = (self.group - 1) / self.group
        once = {"all-reduce": 2 * share, "reduce-scatter": self.group - 1}
        whole = "collective-permute", "collective-broadcast"
        factor = 1.0 if self.operation in whole else once.get(self.operation, share)
        return factor * self.nbytes * self.times


@dataclasses.dataclass(frozen=True)
class Counts:
    """What is moved and computed.

    Attributes:
      moved: bytes of the main memory, by what moves them: `kernels`, `collectives`, `copies`, `other`.
      flops: multiplications and additions of matrix products, two a pair.
      collectives: in the order of the program.
      kernels: by name, how often each runs.
    """

    moved: Counter = dataclasses.field(default_factory=Counter)
    flops: float = 0.0
    collectives: tuple[Collective, ...] = ()
    kernels: Counter = dataclasses.field(default_factory=Counter)

    @property
    def nbytes(self) -> int:
        """Bytes in all."""
        return sum(self.moved.values())

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.moved + other.moved,
            self.flops + other.flops,
            self.collectives + other.collectives,
            self.kernels + other.kernels,
        )

    def repeated(self, times: int) -> "Counts":
        """As often."""
        scaled = lambda held: Counter({name: times * value for name, value in held.items()})
        again = lambda held: dataclasses.replace(held, times=held.times * times)
        return Counts(
            scaled(self.moved),
            self.flops * times,
            tuple(map(again, self.collectives)),
            scaled(self.kernels),
        )
