"""What texts are worth to a causal model."""

import functools

import jax
import jax.numpy as jnp

from jaxdec.model import Inputs, Model, Params


@functools.partial(jax.jit, static_argnums=0)
def log_probs(model: Model, params: Params, tokens: jax.Array) -> jax.Array:
    """Of every token but the first, given those before it: `[N, L - 1]`."""
    law = jax.nn.log_softmax(model(params, Inputs.causal(tokens), None).logits[:, :-1])
    return jnp.take_along_axis(law, tokens[:, 1:, None], axis=-1)[..., 0]
