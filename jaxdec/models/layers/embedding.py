"""Rows of an embedding, in the type of the table."""

import jax
import jax.numpy as jnp
from flax import nnx


def rows(table: nnx.Embed, index: jax.Array) -> jax.Array:
    """`table[index]`, `[..., D]`.

    A call of `nnx.Embed` would cast the whole table to the type that it was built with, and all states after it.
    """
    return jnp.take(table.embedding[...], index, axis=0)
