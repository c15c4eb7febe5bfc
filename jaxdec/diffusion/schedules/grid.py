"""Coordinates of grids."""

import numpy as np


def grid(*sizes: int) -> list[np.ndarray]:
    """The coordinates of all cells of a grid, axis by axis, each `[cells]`."""
    if min(sizes) < 1:
        raise ValueError(f"sizes must be at least 1, got {sizes}")
    return [axis.reshape(-1) for axis in np.indices(sizes)]
