"""A picture by interleaved grids."""

from jaxdec.arguments import typed
from jaxdec.diffusion.schedules.grid import grid
from jaxdec.diffusion.schedules.partition import Partition, partition


@typed
def subsample(height: int, width: int, stride: int) -> Partition:
    """A picture by interleaved grids: `group = (h mod s) s + w mod s`, coarse structure first."""
    h, w = grid(height, width)
    if not 1 <= stride <= min(height, width):
        raise ValueError(f"a stride of {stride} does not fit {height} by {width}")
    return partition(h % stride * stride + w % stride)
