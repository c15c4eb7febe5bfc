"""A picture pixel by pixel."""

from jaxdec.diffusion.schedules.grid import grid
from jaxdec.diffusion.schedules.partition import partition
from jaxdec.diffusion.schedules.schedule import Schedule


def raster(height: int, width: int) -> Schedule:
    """A picture pixel by pixel: `group = h width + w`."""
    h, w = grid(height, width)
    return partition(h * width + w)
