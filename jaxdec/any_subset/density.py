"""The joint law of any subset given any other, in one forward.

Legend: B rows, L positions, Q masked positions of a row at most, V vocabulary.
"""

import functools

import jax
import jax.numpy as jnp

from jaxdec.decoding import check_serves
from jaxdec.model import Model, Order, Params, prompt_inputs, score
from jaxdec.sampling import Warp, is_traced


def log_prob(
    model: Model, params: Params, tokens: jax.Array, order: Order, warp: Warp | None = None
) -> jax.Array:
    """Log-probability of each masked token given the tokens of lower rank, all in one forward.

        log p(x_masked | x_visible) = sum over masked positions of log p(x_r | x_{<r})

    Only masked ranks are asked for: as many queries a row as the row with most of them has, in a bucket (L if the order
    is traced).

    Args:
      model: answers queries.
      params: its own parameters, not a mapping by part name.
      tokens: int32 `[B, L]` by position, all filled.
      order: of generation; `any_subset.lattice(visible)` or `any_subset.fixed_order(ranks, visible)`.
      warp: the law's settings, validated; the model's own law if not given. Penalties are not supported.

    Returns:
      float32 `[B, L]` by position; 0 at visible positions and past the end. The sum over a row is the joint's.

    Raises:
      ValueError: before anything is traced, if the model cannot read its parameters.

    Exactness: the very terms that sequential decoding in this order draws from.
    """
    check_serves("model", model, params)
    width = tokens.shape[1]
    masked = width
    if not is_traced((order.size, order.visible)):
        most = int(jnp.max(order.size - order.visible))
        masked = min(width, max(8, 1 << (most - 1).bit_length()))
    return _log_prob(model, masked, params, tokens, order, warp)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _log_prob(
    model: Model, masked: int, params: Params, tokens: jax.Array, order: Order, warp: Warp | None
) -> jax.Array:
    width = tokens.shape[1]
    in_rank = jnp.take_along_axis(tokens, order.places, axis=1)
    inputs = prompt_inputs(in_rank, order.size, order, visible=order.visible)
    # Ranks that are asked for, each by the content token before it.
    ranks = order.visible[:, None] + jnp.arange(masked)
    at = jnp.minimum(ranks, width) - 1
    logits = score(model, params, inputs, None, order, at=at).logits
    law = jax.nn.log_softmax(logits) if warp is None else warp.log_probs(logits)
    follows = jnp.take_along_axis(in_rank, at + 1, axis=1, mode="clip")
    terms = jnp.take_along_axis(law, follows[..., None], axis=-1)[..., 0]
    places = jnp.take_along_axis(order.places, at + 1, axis=1, mode="clip")
    places = jnp.where(ranks < order.size[:, None], places, width)
    put = lambda at, terms: jnp.zeros((width,), terms.dtype).at[at].set(terms, mode="drop")
    return jax.vmap(put)(places, terms)
