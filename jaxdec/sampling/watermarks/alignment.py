"""How well a text lies on a key: the statistic of the best block, place for place or with insertions and deletions.

Legend: n rows of the key, m tokens of a text, of which `size` are its own, K tokens of a block, S = m - K + 1 blocks.
"""

import jax
import jax.numpy as jnp
import numpy as np


def aligned(costs: jax.Array, size: jax.Array, block: int) -> jax.Array:
    """The least cost of a block of the text on as many rows of the key.

        min over i, j of  sum_{l < k} costs[(j + l) mod n, i + l],   k = min(K, size),  0 <= i <= size - k,  0 <= j < n

    Args:
      costs: float `[n, m]`, of each token at each row.
      size: int32 `[]`, the tokens of the text; what stands behind them is not read.
      block: K, 1 to m.

    Returns:
      float `[]`; 0 for no tokens.
    """
    rows, width = costs.shape
    starts, places = jnp.arange(rows)[:, None], jnp.arange(width)
    # Row j of the diagonals: token l at row j + l of the key.
    diagonals = jnp.where(places < size, costs[(starts + places) % rows, places], 0)
    sums = jax.lax.reduce_window(
        diagonals, np.zeros((), costs.dtype), jax.lax.add, (1, block), (1, 1), "VALID"
    )
    inside = jnp.arange(width - block + 1) <= size - jnp.minimum(block, size)
    return jnp.where(inside, sums, jnp.inf).min()


def edited(costs: jax.Array, size: jax.Array, block: int, gap: jax.Array) -> jax.Array:
    """The least edit cost between a block of the text and as many rows of the key.

        D[a, 0] = a gap,   D[0, b] = b gap,
        D[a, b] = min(D[a-1, b] + gap, D[a, b-1] + gap, D[a-1, b-1] + costs[(j + b) mod n, i + a]),
        min over i, j of  D[k, k]

    with k, i and j as in `aligned`. A row of D follows from the one before by a running minimum, for all j at once:

        c_b = min(D[a-1, b] + gap, D[a-1, b-1] + cost),   D[a, b] = b gap + min_{b' <= b} (c_{b'} - b' gap)

    Args:
      costs: float `[n, m]`, of each token at each row.
      size: int32 `[]`, the tokens of the text; what stands behind them is not read.
      block: K, 1 to m.
      gap: float `[]`, the cost of a token or a row that is left out.

    Returns:
      float `[]`; 0 for no tokens. S n K^2 operations.
    """
    rows, width = costs.shape
    gap = jnp.asarray(gap, costs.dtype)
    ends = jnp.arange(block + 1) * gap
    places = (jnp.arange(rows)[:, None] + jnp.arange(block)) % rows
    used = jnp.minimum(block, size)

    def start(i):
        def token(before, a):
            cost = jax.lax.dynamic_index_in_dim(costs, i + a, axis=1, keepdims=False)[places]
            either = jnp.minimum(before[:, 1:] + gap, before[:, :-1] + cost)
            best = jnp.concatenate([jnp.full((rows, 1), (a + 1) * gap), either], axis=1)
            after = ends + jax.lax.cummin(best - ends, axis=1)
            return jnp.where(a < used, after, before), None

        first = jnp.broadcast_to(ends, (rows, block + 1))
        last, _ = jax.lax.scan(token, first, jnp.arange(block, dtype=jnp.int32))
        found = jax.lax.dynamic_index_in_dim(last, used, axis=1, keepdims=False).min()
        return jnp.where(i <= size - used, found, jnp.inf)

    return jax.lax.map(start, jnp.arange(width - block + 1, dtype=jnp.int32)).min()
