"""All codes of a level together."""

from jaxdec.diffusion.schedules.grid import grid
from jaxdec.diffusion.schedules.partition import partition
from jaxdec.diffusion.schedules.schedule import Schedule


def depth(steps: int, levels: int) -> Schedule:
    """`steps` frames of `levels` residual codes, stored frame by frame: all codes of a level together."""
    return partition(grid(steps, levels)[1])
