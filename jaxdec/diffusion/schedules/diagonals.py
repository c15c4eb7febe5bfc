"""A picture by diagonals."""

import numpy as np

from jaxdec.arguments import typed
from jaxdec.diffusion.schedules.grid import grid
from jaxdec.diffusion.schedules.partition import Partition, partition


@typed
def diagonals(height: int, width: int, slope: int = 1) -> Partition:
    """A picture by diagonals: `group = slope h + w`; next-neighbour decoding for slope 1.

    With slope 2 the upper right neighbour of a position is decoded before it.
    """
    h, w = grid(height, width)
    if slope < 1:
        raise ValueError(f"slope must be at least 1, got {slope}")
    return partition(np.unique(slope * h + w, return_inverse=True)[1])
