"""The specification of `unmask` in plain jnp.

Legend: N rows, V vocabulary, B groups of rows.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from pallas_kernels.laws import gumbel, warped
from pallas_kernels.unmask.types import Readout, Statistics, Unmasked


def statistics(law: jax.Array, tokens: jax.Array, logsumexp: ArrayLike = 0.0) -> Statistics:
    """The statistics of normalised log-probabilities.

    Args:
      law: float32 `[..., V]`; a law that is no number is NaN throughout.
      tokens: int32 `[...]`, what was drawn.
      logsumexp: `[...]`, of the scores that the law was made of; that of the law itself is 0.
    """
    top = jnp.max(law, axis=-1)
    best = law == top[..., None]
    below = jnp.max(jnp.where(best, -jnp.inf, law), axis=-1)
    # Not every compiler's maximum is NaN where a number is.
    number = lambda x: jnp.where(jnp.isnan(law[..., 0]), jnp.nan, x)
    return Statistics(
        log_prob=jnp.take_along_axis(law, tokens[..., None], axis=-1)[..., 0],
        top=number(top),
        second=number(jnp.where(jnp.sum(best, axis=-1) > 1, top, below)),
        entropy=-jnp.sum(jnp.where(law == -jnp.inf, 0, jnp.exp(law) * law), axis=-1),
        logsumexp=number(logsumexp),
    )


def unmask(
    scores: jax.Array | Readout,
    keys: jax.Array | None,
    temperature: jax.Array,
    banned: jax.Array | None,
) -> Unmasked:
    """See `pallas_kernels.unmask.unmask`."""
    logits = scores.logits() if isinstance(scores, Readout) else scores.astype(jnp.float32)
    if keys is None:
        temperature = jnp.zeros_like(temperature)
    total = jax.nn.logsumexp(logits, axis=-1)
    own = jnp.where(jnp.isfinite(total)[:, None], jax.nn.log_softmax(logits), jnp.nan)

    if banned is not None:
        banned = jnp.repeat(banned, logits.shape[0] // banned.shape[0], axis=0)
    law, tempered = warped(logits, temperature, banned)
    perturbed = law if keys is None else law + gumbel(keys, temperature, logits.shape[1])
    tokens = jnp.argmax(perturbed, axis=-1).astype(jnp.int32)

    raw = statistics(own, tokens, total)
    return Unmasked(
        tokens=tokens,
        own=raw._replace(log_prob=jnp.where(jnp.isnan(law[:, 0]), jnp.nan, raw.log_prob)),
        warped=statistics(law, tokens, jax.nn.logsumexp(tempered, axis=-1)),
    )
