"""Next-scale decoding."""

from collections.abc import Sequence

import numpy as np

from jaxdec.arguments import typed
from jaxdec.diffusion.schedules.grid import MOST_CELLS
from jaxdec.diffusion.schedules.partition import Partition, partition
from jaxdec.sampling import shown


@typed
def scales(sides: Sequence[int]) -> Partition:
    """Square token maps of growing side, one after the other: next-scale decoding."""
    sides = list(sides)
    if not sides or min(sides) < 1:
        raise ValueError(f"sides must be at least 1, got {sides}")
    if sum(int(side) ** 2 for side in sides) > MOST_CELLS:
        raise ValueError(f"a schedule has at most {MOST_CELLS} positions, got sides {shown(sides)}")
    return partition(np.repeat(np.arange(len(sides)), np.square(sides)))
