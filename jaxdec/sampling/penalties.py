"""Penalties: logits of tokens that the text holds already are changed.

Legend: B rows, V vocabulary.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdec.sampling.broadcast import by_row, by_token


def penalised(
    logits: jax.Array,
    prompt: jax.Array,
    generated: jax.Array,
    repetition: ArrayLike | None,
    presence: ArrayLike | None,
    frequency: ArrayLike | None,
) -> jax.Array:
    """Logits `[B, ..., V]` after the penalties that are given; see `Warp`.

    Args:
      logits: before them.
      prompt: int32 `[B, V]`, how often each token stands in the prompt.
      generated: int32 `[B, ..., V]`, how often each was generated.
      repetition: of tokens in either.
      presence: of generated tokens.
      frequency: of generated tokens, for each time.
    """
    ndim = logits.ndim
    generated = by_token(generated, ndim)
    if repetition is not None:
        seen = by_token(prompt, ndim) + generated > 0
        logits = _repeated(logits, seen, by_row(repetition, ndim))
    if presence is not None:
        logits = _lowered(logits, by_row(presence, ndim) * (generated > 0))
    if frequency is not None:
        logits = _lowered(logits, by_row(frequency, ndim) * generated)
    return logits


def _lowered(logits: jax.Array, by: jax.Array) -> jax.Array:
    """Logits less a penalty; what is infinite or no number stays so, and no number becomes infinite."""
    most = jnp.finfo(logits.dtype).max
    return jnp.where(jnp.isfinite(logits), jnp.clip(logits - by, -most, most), logits)


def _repeated(logits: jax.Array, seen: jax.Array, penalty: jax.Array) -> jax.Array:
    """Divides positive and multiplies negative logits of seen tokens by the penalty."""
    scaled = jnp.where(logits > 0, logits / penalty, logits * penalty)
    # -inf stays as it is: a penalty flushed to 0 would make it NaN.
    return jnp.where(seen & (logits > -jnp.inf), scaled, logits)
