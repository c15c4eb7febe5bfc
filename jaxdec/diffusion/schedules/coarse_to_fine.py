"""Coarse tokens one by one, then the fine ones together."""

import numpy as np

from jaxdec.arguments import typed
from jaxdec.diffusion.schedules.grid import grid
from jaxdec.diffusion.schedules.partition import Partition, partition


@typed
def coarse_to_fine(length: int) -> Partition:
    """`length` coarse tokens one by one, then all fine ones together."""
    (coarse,) = grid(length)
    return partition(np.concatenate([coarse, np.full(length, length)]))
