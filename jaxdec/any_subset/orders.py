"""Orders of generation over a sequence with any visible subset.

Legend: B rows, L positions.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.decoding import integers
from jaxdec.model import Order
from jaxdec.sampling import as_array, is_traced


def lattice_ranks(visible: jax.Array) -> jax.Array:
    """The one order that belongs to a visible set: visible positions ascending, then the others ascending.

    A model that follows it needs a law for each set of known positions, 2^L of them, rather than for each order.

    Args:
      visible: bool `[B, L]`.

    Returns:
      int32 `[B, L]`, the rank of each position.

    Source: the binary lattice of Shih et al. (2205.13554), as the any-subset models of 2504.20456 use it.
    """
    visible = jnp.asarray(visible)
    first = jnp.cumsum(visible, axis=-1)
    rest = jnp.cumsum(~visible, axis=-1) + first[..., -1:]
    return (jnp.where(visible, first, rest) - 1).astype(jnp.int32)


def lattice(visible: jax.Array | np.ndarray, sizes: Any = None) -> Order:
    """The lattice order of visible sets; see `lattice_ranks`. What is traced is checked by shape and type alone.

    Args:
      visible: bool `[B, L]`.
      sizes: int `[B]`, positions of each row; all L if not given. Positions past the end are ignored.

    Raises:
      ValueError: as `fixed_order`.
    """
    visible, sizes = _checked(visible, sizes)
    inside = np.arange(visible.shape[1]) < sizes[:, None]
    # A stable sort by (past the end, not visible): ties keep ascending positions.
    xp = jnp if is_traced((visible, sizes)) else np
    places = xp.argsort(xp.where(inside, xp.where(visible, 0, 1), 2), axis=1, stable=True)
    return _order(places, visible & inside, sizes)


def fixed_order(
    ranks: jax.Array | np.ndarray, visible: jax.Array | np.ndarray, sizes: Any = None
) -> Order:
    """An order of the caller's own. What is traced is checked by shape and type alone.

    Args:
      ranks: int `[B, L]`, the rank of each position: a permutation of 0, ..., size - 1 in each row, with the visible
        positions first.
      visible: bool `[B, L]`.
      sizes: int `[B]`, positions of each row; all L if not given.

    Raises:
      ValueError: if ranks are not such a permutation, or a row has no visible or no masked position.
    """
    visible, sizes = _checked(visible, sizes)
    known = not is_traced((ranks, visible, sizes))
    xp = np if known else jnp
    ranks = as_array("ranks", ranks, "integers [B, L]")
    if ranks.shape != visible.shape or not np.issubdtype(ranks.dtype, np.integer):
        raise ValueError(
            f"ranks must be integers of shape {list(visible.shape)}, got {ranks.dtype} {list(ranks.shape)}"
        )
    inside = np.arange(visible.shape[1]) < sizes[:, None]
    for row, size in enumerate(sizes if known else ()):
        own = ranks[row, :size]
        if not np.array_equal(np.sort(own), np.arange(size)):
            raise ValueError(
                f"the ranks of row {row} are not a permutation of 0 to {size - 1}: {own}"
            )
        shown = visible[row, :size]
        if own[shown].max() >= shown.sum():
            place = int(np.flatnonzero(shown & (own >= shown.sum()))[0])
            raise ValueError(
                f"position {place} of row {row} is visible but has rank {own[place]}; visible "
                f"positions have the ranks 0 to {shown.sum() - 1}"
            )
    places = xp.argsort(xp.where(inside, ranks, visible.shape[1]), axis=1, stable=True)
    return _order(places, visible & inside, sizes)


def _order(places: Any, visible: Any, sizes: Any) -> Order:
    number = lambda x: x.astype(np.int32)
    return Order(number(places), number(visible.sum(1)), number(sizes))


def _checked(visible: Any, sizes: Any) -> tuple[Any, Any]:
    visible = as_array("visible", visible, "bool [B, L]")
    if visible.ndim != 2 or visible.dtype != bool:
        raise ValueError(f"visible must be bool [B, L], got {visible.dtype} {list(visible.shape)}")
    batch, length = visible.shape
    sizes = np.full(batch, length) if sizes is None else integers("sizes", sizes, [(batch,)])
    if is_traced((visible, sizes)):
        return visible, sizes
    for row, size in enumerate(sizes):
        if not 1 <= size <= length:
            raise ValueError(f"row {row} has {size} positions; 1 to {length} are allowed")
        shown = int(visible[row, :size].sum())
        if shown == size:
            raise ValueError(f"row {row} has no masked position: all {size} are visible")
        if shown == 0:
            raise ValueError(
                f"row {row} has no visible position among {size}; at least 1 is needed"
            )
    return visible, sizes
