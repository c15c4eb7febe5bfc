"""Linear attention with decays as a model: states of fixed size, causal sequences alone."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.cache import RecurrentCache, RecurrentEntries, continue_states
from jaxdec.model import Model, Output

HEADS, WIDTH = 2, 4


def _forward(params, inputs, cache=None):
    batch = inputs.tokens.shape[0]
    x = params["embedding"][inputs.tokens]
    heads = lambda name: (x @ params[name]).reshape(*x.shape[:2], HEADS, WIDTH)
    queries, keys, values = (heads(name) for name in ("queries", "keys", "values"))
    decays = jax.nn.sigmoid(x @ params["decays"])[..., None, None]  # [B, T, H, 1, 1]
    added = keys[..., :, None] * values[..., None, :]

    def token(state, step):
        state = step[0] * state + step[1]
        return state, state

    order = lambda x: x.swapaxes(0, 1)
    _, states = jax.lax.scan(
        token, jnp.zeros(added.shape[:1] + added.shape[2:]), (order(decays), order(added))
    )
    start = jnp.zeros((batch, HEADS, WIDTH, WIDTH)) if cache is None else cache.read(0)
    states = continue_states(order(states), jnp.cumprod(decays, axis=1), start)
    hidden = jnp.einsum("bthi,bthij->bthj", queries, states).reshape(*x.shape[:2], -1)
    return Output(hidden @ params["head"], hidden, (), RecurrentEntries((states,)))


def _empty(batch, capacity):
    return RecurrentCache.create((jnp.zeros((batch, HEADS, WIDTH, WIDTH)),), capacity)


def linear_network(vocab_size, seed=0):
    """`(model, params)`."""
    rng = np.random.default_rng(seed)
    inner = HEADS * WIDTH
    shapes = {
        "embedding": (vocab_size, 8), "queries": (8, inner), "keys": (8, inner), "values": (8, inner),
        "decays": (8, HEADS), "head": (inner, vocab_size),
    }  # fmt: skip
    params = {
        name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()
    }
    return Model(_forward, _empty, vocab_size), params
