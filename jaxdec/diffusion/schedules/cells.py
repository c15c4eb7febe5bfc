"""A picture by square cells."""

from jaxdec.arguments import typed
from jaxdec.diffusion.schedules.grid import grid
from jaxdec.diffusion.schedules.partition import Partition, partition


@typed
def cells(height: int, width: int, size: int) -> Partition:
    """A picture by square cells of `size` by `size`, cell after cell in raster order."""
    h, w = grid(height, width)
    if size < 1 or height % size or width % size:
        raise ValueError(f"cells of {size} do not divide {height} by {width}")
    return partition(h // size * (width // size) + w // size)
