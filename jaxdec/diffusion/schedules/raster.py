"""A picture pixel by pixel."""

from jaxdec.arguments import typed
from jaxdec.diffusion.schedules.grid import grid
from jaxdec.diffusion.schedules.partition import Partition, partition


@typed
def raster(height: int, width: int) -> Partition:
    """A picture pixel by pixel: `group = h width + w`."""
    h, w = grid(height, width)
    return partition(h * width + w)
