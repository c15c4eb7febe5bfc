"""Next-scale decoding."""

from collections.abc import Sequence

import numpy as np

from jaxdec.diffusion.schedules.partition import Partition, partition


def scales(sides: Sequence[int]) -> Partition:
    """Square token maps of growing side, one after the other: next-scale decoding."""
    if not sides or min(sides) < 1:
        raise ValueError(f"sides must be at least 1, got {list(sides)}")
    return partition(np.repeat(np.arange(len(sides)), np.square(sides)))
