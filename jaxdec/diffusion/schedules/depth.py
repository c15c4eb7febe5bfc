"""All codes of a level together."""

from jaxdec.arguments import typed
from jaxdec.diffusion.schedules.grid import grid
from jaxdec.diffusion.schedules.partition import Partition, partition


@typed
def depth(steps: int, levels: int) -> Partition:
    """`steps` frames of `levels` residual codes, stored frame by frame: all codes of a level together."""
    return partition(grid(steps, levels)[1])
