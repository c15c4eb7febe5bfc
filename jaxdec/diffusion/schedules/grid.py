"""Coordinates of grids."""

import math

import numpy as np

MOST_CELLS = 1 << 20
"""Of a grid, at most: a table holds each."""


def grid(*sizes: int) -> list[np.ndarray]:
    """The coordinates of all cells of a grid, axis by axis, each `[cells]`."""
    if min(sizes) < 1:
        raise ValueError(f"sizes must be at least 1, got {sizes}")
    if math.prod(sizes) > MOST_CELLS:
        raise ValueError(f"a schedule has at most {MOST_CELLS} positions, got sizes {sizes}")
    return [axis.reshape(-1) for axis in np.indices(sizes)]
