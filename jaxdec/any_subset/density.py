"""The joint law of any subset given any other, in one forward.

Legend: B rows, L positions, V vocabulary.
"""

import functools

import jax
import jax.numpy as jnp

from jaxdec.model import Model, Order, Params, prompt_inputs, score
from jaxdec.sampling import Warp


@functools.partial(jax.jit, static_argnums=0)
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

    Returns:
      float32 `[B, L]` by position; 0 at visible positions and past the end. The sum over a row is the joint's.

    Exactness: the very terms that sequential decoding in this order draws from.
    """
    ranks = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    in_rank = jnp.take_along_axis(tokens, order.places, axis=1)
    inputs = prompt_inputs(in_rank, order.size, order, visible=order.visible)
    logits = score(model, params, inputs, None, order).logits
    law = jax.nn.log_softmax(logits) if warp is None else warp.log_probs(logits)
    follows = jnp.roll(in_rank, -1, axis=1)
    terms = jnp.take_along_axis(law, follows[..., None], axis=-1)[..., 0]
    wanted = (ranks + 1 >= order.visible[:, None]) & (ranks + 1 < order.size[:, None])
    terms = jnp.roll(jnp.where(wanted, terms, 0), 1, axis=1)
    return jnp.zeros_like(terms).at[jnp.arange(len(terms))[:, None], order.places].set(terms)
