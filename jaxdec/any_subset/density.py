"""The joint law of any subset given any other, in one forward.

Legend: B rows, L positions, Q queries a row, V vocabulary.
"""

import functools

import jax
import jax.numpy as jnp

from jaxdec.model import Model, Order, Params, prompt_inputs, score
from jaxdec.sampling import Warp


def log_prob(
    model: Model, params: Params, tokens: jax.Array, order: Order, warp: Warp | None = None
) -> jax.Array:
    """Log-probability of each masked token given the tokens of lower rank, all in one forward.

        log p(x_masked | x_visible) = sum over masked positions of log p(x_r | x_{<r})

    Args:
      model: answers queries.
      params: its parameters.
      tokens: int32 `[B, L]` by position, all filled.
      order: of generation; `any_subset.lattice(visible)` or `any_subset.fixed_order(ranks, visible)`.
      warp: the law's settings, validated; the model's own law if not given. Penalties are not supported.

    Masked positions alone are asked about, the most of any row rounded up to a power of two; where the order is traced
    all L are.

    Returns:
      float32 `[B, L]` by position; 0 at visible positions and past the end. The sum over a row is the joint's.

    Exactness: the very terms that sequential decoding in this order draws from.
    """
    length = tokens.shape[1]
    queries = length
    if not isinstance(order.visible, jax.core.Tracer):
        most = max(int(jnp.max(order.size - order.visible)), 1)
        queries = min(
            1 << (most - 1).bit_length(), length
        )  # a power of two: few programs are compiled
    return _log_prob(model, queries, params, tokens, order, warp)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _log_prob(
    model: Model,
    queries: int,
    params: Params,
    tokens: jax.Array,
    order: Order,
    warp: Warp | None,
) -> jax.Array:
    in_rank = jnp.take_along_axis(tokens, order.places, axis=1)
    inputs = prompt_inputs(in_rank, order.size, order, visible=order.visible)
    ranks = order.visible[:, None] + jnp.arange(queries)
    wanted = ranks < order.size[:, None]
    ranks = jnp.where(wanted, ranks, 1)
    logits = score(model, params, inputs, None, order, at=ranks - 1).logits
    law = jax.nn.log_softmax(logits) if warp is None else warp.log_probs(logits)
    chosen = jnp.take_along_axis(in_rank, ranks, axis=1)
    terms = jnp.take_along_axis(law, chosen[..., None], axis=-1)[..., 0]
    places = jnp.take_along_axis(order.places, ranks, axis=1)
    places = jnp.where(wanted, places, tokens.shape[1])  # past the end: dropped
    put = lambda at, values: jnp.zeros(tokens.shape[1]).at[at].set(values, mode="drop")
    return jax.vmap(put)(places, terms)
