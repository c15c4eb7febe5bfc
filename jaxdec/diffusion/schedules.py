"""Schedules: in which order the positions of a canvas are decoded, as an ordered partition into groups.

All positions of a group are decoded together, in as many steps as the policy takes; the next group begins when the last
position of a group is committed. One group is the whole canvas, groups of one are autoregressive decoding.

Legend: B rows, L positions of a canvas, N generated positions, G groups.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Schedule:
    """An ordered partition; made by `whole`, `blocks` or `partition`.

    Attributes:
      size: positions of a group, for equal groups; None for one group.
      unit: positions of a block that holds whole groups: what attention and caches go by.
      from_start: whether groups are counted from the start of the sequence rather than from the end of the prompt. The
        rest of a block that the prompt begins is then the first group.
      table: the group of each generated position, for partitions that are given.
    """

    size: int | None = None
    unit: int | None = None
    from_start: bool = False
    table: tuple[int, ...] | None = None

    def check(self, budget: int) -> None:
        """Raises `ValueError` if a partition has fewer positions than a row asks for."""
        if self.table is not None and budget > len(self.table):
            raise ValueError(
                f"the schedule has {len(self.table)} positions, a row asks for {budget}"
            )

    def assign(self, prompt: jax.Array, length: int) -> tuple[jax.Array, jax.Array]:
        """The group and the unit of every position.

        Args:
          prompt: int32 `[B]`, positions of the prompt.
          length: L.

        Returns:
          int32 `[B, L]` each, from 0 on; -1 for positions of the prompt that lie in no group.
        """
        places = jnp.broadcast_to(jnp.arange(length), (prompt.shape[0], length))
        if not self.from_start:
            places = places - prompt[:, None]
        inside = places >= 0
        if self.table is not None:
            table = jnp.asarray(self.table, jnp.int32)
            groups = table[jnp.clip(places, 0, len(self.table) - 1)]
            units = groups
        else:
            groups = jnp.zeros_like(places) if self.size is None else places // self.size
            units = groups if self.unit is None else places // self.unit
        return jnp.where(inside, groups, -1), jnp.where(inside, units, -1)

    def largest(self, room: int) -> tuple[int, int]:
        """The most positions that a group, and a unit, of a canvas with `room` generated ones has."""
        if self.table is not None:
            most = int(np.bincount(self.table).max())
            return most, most
        group = room if self.size is None else self.size
        return group, self.unit or group


def whole() -> Schedule:
    """One group: every position may be committed at any time."""
    return Schedule()


def blocks(size: int, *, within: int | None = None, from_start: bool = False) -> Schedule:
    """Blocks from left to right: `group(i) = i // size`; semi-autoregressive decoding.

    Args:
      size: positions of a block.
      within: the size of larger blocks that these are parts of (sub-blocks, 2509.26328); divisible by `size`.
        Attention and caches then go by the larger ones.
      from_start: count from the start of the sequence, as block-causal models are trained, rather than from the end
        of the prompt.

    Raises:
      ValueError: for sizes below 1 or that do not divide.

    Source: LLaDA 2502.09992 (from the prompt's end); BD3-LM 2503.09573 and SDAR 2510.06303 (from the start).
    """
    if size < 1:
        raise ValueError(f"blocks need at least 1 position, got {size}")
    if within is not None and (within < size or within % size):
        raise ValueError(f"sub-blocks of {size} positions do not divide blocks of {within}")
    return Schedule(size=size, unit=within, from_start=from_start)


def partition(groups: Sequence[int] | np.ndarray) -> Schedule:
    """Any ordered partition of the generated positions.

    Args:
      groups: int `[N]`, the group of each position: 0 to G - 1, all of them used.

    Raises:
      ValueError: if a group is missing.
    """
    table = np.asarray(groups)
    if table.ndim != 1 or not table.size or not np.issubdtype(table.dtype, np.integer):
        raise ValueError(f"groups must be integers [N], got {table.dtype} {list(table.shape)}")
    used = np.unique(table)
    if not np.array_equal(used, np.arange(len(used))):
        missing = sorted(set(range(int(table.max()) + 1)) - set(used.tolist()))
        raise ValueError(f"groups must be 0, ..., G - 1, all used; found {used[0]}, no {missing}")
    return Schedule(table=tuple(table.tolist()))


def _grid(*sizes: int) -> list[np.ndarray]:
    if min(sizes) < 1:
        raise ValueError(f"sizes must be at least 1, got {sizes}")
    return [axis.reshape(-1) for axis in np.indices(sizes)]


def raster(height: int, width: int) -> Schedule:
    """A picture pixel by pixel: `group = h width + w`."""
    h, w = _grid(height, width)
    return partition(h * width + w)


def diagonals(height: int, width: int, slope: int = 1) -> Schedule:
    """A picture by diagonals: `group = slope h + w`; next-neighbour decoding for slope 1.

    With slope 2 the upper right neighbour of a position is decoded before it.
    """
    h, w = _grid(height, width)
    if slope < 1:
        raise ValueError(f"slope must be at least 1, got {slope}")
    return partition(np.unique(slope * h + w, return_inverse=True)[1])


def cells(height: int, width: int, size: int) -> Schedule:
    """A picture by square cells of `size` by `size`, cell after cell in raster order."""
    h, w = _grid(height, width)
    if size < 1 or height % size or width % size:
        raise ValueError(f"cells of {size} do not divide {height} by {width}")
    return partition(h // size * (width // size) + w // size)


def subsample(height: int, width: int, stride: int) -> Schedule:
    """A picture by interleaved grids: `group = (h mod s) s + w mod s`, coarse structure first."""
    h, w = _grid(height, width)
    if not 1 <= stride <= min(height, width):
        raise ValueError(f"a stride of {stride} does not fit {height} by {width}")
    return partition(h % stride * stride + w % stride)


def scales(sides: Sequence[int]) -> Schedule:
    """Square token maps of growing side, one after the other: next-scale decoding."""
    if not sides or min(sides) < 1:
        raise ValueError(f"sides must be at least 1, got {list(sides)}")
    return partition(np.repeat(np.arange(len(sides)), np.square(sides)))


def coarse_to_fine(length: int) -> Schedule:
    """`length` coarse tokens one by one, then all fine ones together."""
    (coarse,) = _grid(length)
    return partition(np.concatenate([coarse, np.full(length, length)]))


def depth(steps: int, levels: int) -> Schedule:
    """`steps` frames of `levels` residual codes, stored frame by frame: all codes of a level together."""
    return partition(_grid(steps, levels)[1])


def delay(steps: int, levels: int) -> Schedule:
    """`steps` frames of `levels` residual codes, each level one frame behind the level before: `group = t + q`."""
    t, q = _grid(steps, levels)
    return partition(t + q)
