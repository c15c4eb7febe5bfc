"""The specification of `unmask` in plain jnp.

Legend: N rows, V vocabulary, B groups of rows.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from pallas_kernels.unmask.types import Readout, Statistics, Unmasked

TINY = float(jnp.finfo(jnp.float32).tiny)
"""Temperatures below count as 0, since some devices flush subnormal numbers."""


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
    size = logits.shape[1]
    if keys is None:
        temperature = jnp.zeros_like(temperature)
    total = jax.nn.logsumexp(logits, axis=-1)
    # Tested before bans, which would hide a broken model behind a legal law.
    broken = ~jnp.isfinite(total)
    own = jnp.where(broken[:, None], jnp.nan, jax.nn.log_softmax(logits))

    if banned is not None:
        each = logits.shape[0] // banned.shape[0]
        logits = jnp.where(jnp.repeat(banned, each, axis=0), -jnp.inf, logits)
    top = jnp.max(logits, axis=-1)
    broken |= ~jnp.isfinite(top)
    greedy = temperature < TINY
    # Shifted first: a small temperature then sends logits to -inf, never to +inf.
    tempered = (logits - top[:, None]) / jnp.where(greedy, 1.0, temperature)[:, None]
    best = jnp.argmax(logits, axis=-1)[:, None] == jnp.arange(size)
    tempered = jnp.where(greedy[:, None], jnp.where(best, 0.0, -jnp.inf), tempered)
    law = jnp.where(broken[:, None], jnp.nan, jax.nn.log_softmax(tempered))

    perturbed = law
    if keys is not None:
        draw = jax.vmap(lambda key: jax.random.gumbel(key, (size,), jnp.float32, mode="high"))
        silence = lambda keys: jnp.zeros((keys.shape[0], size), jnp.float32)
        perturbed = law + jax.lax.cond(jnp.any(temperature > 0), draw, silence, keys)
    tokens = jnp.argmax(perturbed, axis=-1).astype(jnp.int32)

    raw = statistics(own, tokens, total)
    return Unmasked(
        tokens=tokens,
        own=raw._replace(log_prob=jnp.where(broken, jnp.nan, raw.log_prob)),
        warped=statistics(law, tokens, jax.nn.logsumexp(tempered, axis=-1)),
    )
