"""Which rank stands at the position before or after that of each rank.

Legend: B rows, L positions of the canvas.
"""

import jax
import jax.numpy as jnp

from jaxdec.decoding import Rows
from jaxdec.diffusion.canvas import take


def neighbours(rows: Rows, by: int) -> jax.Array:
    """The rank of the position `by` from that of each rank, its own where there is none: int32 `[B, L]`.

    Args:
      rows: have the order, if there is one; else ranks are positions.
      by: -1 for the position before, 1 for the one after.
    """
    shape = rows.tokens.shape
    ranks = jnp.broadcast_to(jnp.arange(shape[1], dtype=jnp.int32), shape)
    order = rows.order
    if order is None:
        return jnp.clip(ranks + by, 0, shape[1] - 1)
    size = order.size[:, None]
    put = lambda at, rank: jnp.zeros(shape[1], jnp.int32).at[at].set(rank, mode="drop")
    rank_at = jax.vmap(put)(jnp.where(ranks < size, order.places, shape[1]), ranks)
    there = order.at(ranks) + by
    return jnp.where((there >= 0) & (there < size), take(rank_at, there), ranks)
