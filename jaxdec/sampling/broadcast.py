"""How settings of rows are shaped to meet laws.

Legend: B rows, V vocabulary.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdec.sampling.text_before import TextBefore


def each_row(knob: ArrayLike, text: TextBefore) -> jax.Array:
    """A scalar or `[B]` integer knob as int32 `[B]`."""
    return jnp.broadcast_to(jnp.asarray(knob, jnp.int32), text.length.shape)


def by_row(knob: ArrayLike, ndim: int) -> jax.Array:
    """A scalar or `[B]` knob, shaped to broadcast against `[B, ..., V]` of `ndim` axes."""
    knob = single(knob)
    return knob.reshape(knob.shape + (1,) * (ndim - 1)) if knob.ndim else knob


def by_token(table: ArrayLike, ndim: int) -> jax.Array:
    """`[V]`, or `[B, ..., V]` with axes of size 1 put before the last up to `ndim` axes."""
    table = single(table)
    if table.ndim <= 1:
        return table
    return table.reshape(table.shape[:-1] + (1,) * (ndim - table.ndim) + table.shape[-1:])


def single(values: ArrayLike) -> jax.Array:
    """Floats as float32, whatever JAX would make of them; other types as they are."""
    values = jnp.asarray(values)
    return values.astype(jnp.float32) if jnp.issubdtype(values.dtype, jnp.floating) else values
