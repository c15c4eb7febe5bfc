"""Each level of codes one frame behind the level before."""

from jaxdec.arguments import typed
from jaxdec.diffusion.schedules.grid import grid
from jaxdec.diffusion.schedules.partition import Partition, partition


@typed
def delay(steps: int, levels: int) -> Partition:
    """`steps` frames of `levels` residual codes, each level one frame behind the level before: `group = t + q`."""
    t, q = grid(steps, levels)
    return partition(t + q)
