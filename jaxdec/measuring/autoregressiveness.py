"""How close to left to right the positions of a canvas were committed: the probes of DiffuCoder.

Legend: L positions, N of them committed by decoding.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import check_type


def local_autoregressiveness(steps: Any, k: int) -> jax.Array:
    """How often k tokens in a row were committed each right after its left neighbour: AR-ness, local@k.

        p_1, ..., p_N  the positions in the order in which they were committed, those of one step from left to right
        share of i in k, ..., N  with  p_i = p_(i-1) + 1 = ... = p_(i-k+1) + k - 1

    Args:
      steps: int `[..., L]`, the step that committed each position, such as `Result.steps`; below 0 for those that were
        given or are not filled, which do not count as positions.
      k: tokens in a row, at least 1; with 1 the share is 1. It never rises with k.

    Returns:
      float32 `[...]`; 1 from left to right, 0 from right to left (k > 1), NaN where fewer than k were committed.

    Raises:
      ValueError: for steps that are no integers, or k below 1.

    Source: 2506.20639, with k counted in tokens; that those of one step count from left to right is ours.
    """
    order, count = _order(steps, k)
    index = jnp.arange(order.shape[-1], dtype=jnp.int32)
    follows = order == jnp.roll(order, 1, axis=-1) + 1
    # How many before it, without a break, each follow on the one before.
    broken = jax.lax.cummax(jnp.where(follows & (index > 0), 0, index), axis=order.ndim - 1)
    counts = (index >= k - 1) & (index < count)
    return _share(counts & (index - broken >= k - 1), counts)


def global_autoregressiveness(steps: Any, k: int) -> jax.Array:
    """How often a token was committed at one of the k leftmost positions still open: AR-ness, global@k.

        share of i in 1, ..., N  with  fewer than k of p_(i+1), ..., p_N to the left of p_i

    Args:
      steps: see `local_autoregressiveness`.
      k: positions, at least 1. The share never falls with k, and is 1 for N.

    Returns:
      float32 `[...]`; 1 from left to right, min(k, N) / N from right to left, NaN where nothing was committed.

    Raises:
      ValueError: for steps that are no integers, or k below 1.

    Source: 2506.20639, as above.
    """
    order, count = _order(steps, k)
    index = jnp.arange(order.shape[-1], dtype=jnp.int32)
    counts = index < count
    later = (index[:, None] < index) & counts[..., None, :]
    left = (later & (order[..., None, :] < order[..., :, None])).sum(-1, dtype=jnp.int32)
    return _share(counts & (left < k), counts)


def _order(steps: Any, k: int) -> tuple[jax.Array, jax.Array]:
    """The committed positions in their order, counted among themselves, int32 `[..., L]`, and N, `[..., 1]`."""
    check_type("k", k, int)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    steps = jnp.asarray(steps)
    if not jnp.issubdtype(steps.dtype, jnp.integer) or not steps.ndim:
        raise ValueError(
            f"steps must be integers [..., L], got {steps.dtype} of shape {list(steps.shape)}"
        )
    filled = steps >= 0
    number = jnp.cumsum(filled, axis=-1, dtype=jnp.int32) - 1
    last = jnp.iinfo(steps.dtype).max
    by_step = jnp.argsort(jnp.where(filled, steps, last), axis=-1, stable=True)
    return jnp.take_along_axis(number, by_step, -1), filled.sum(-1, keepdims=True, dtype=jnp.int32)


def _share(of: jax.Array, among: jax.Array) -> jax.Array:
    total = lambda x: x.sum(-1, dtype=jnp.int32).astype(jnp.float32)
    return total(of) / total(among)
