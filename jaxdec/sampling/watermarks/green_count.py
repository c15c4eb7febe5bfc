"""How many tokens of a text are green.

Legend: B texts, L tokens of the longest, c tokens of context.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.sampling.watermarks.contract import secret_keys
from jaxdec.sampling.watermarks.detection import checked_texts
from jaxdec.sampling.watermarks.green_list import GreenList, is_green


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GreenCount:
    """What `count_green` found of each text.

    Attributes:
      hits: int32 `[B]`, green tokens, h.
      count: int32 `[B]`, tokens that were looked at, m.
      z: float32 `[B]`, `(h - f m) / sqrt(m f (1 - f))`, f the fraction; 0 where m = 0.
      p_value: float32 `[B]`, `P(Binomial(m, f) >= h)`.
    """

    hits: jax.Array
    count: jax.Array
    z: jax.Array
    p_value: jax.Array


def count_green(
    watermark: GreenList, tokens: Any, *, vocab_size: int, lengths: Any = None
) -> GreenCount:
    """Counts the green tokens of each text, each distinct run of context and token once.

    Whether two distinct runs of c + 1 tokens end in a green one is independent over secrets, so that the count of a
    text that knows nothing of the secret is binomial; repeated ones would add nothing but variance.

    Args:
      watermark: with one secret and fraction; the bias does not matter.
      tokens: int `[B, L]`, right-padded, or one text `[L]`, which gives arrays of one. The first c tokens are context
        only.
      vocab_size: V, of the model that the texts may come from.
      lengths: int `[B]`, the tokens of each text; all L if not given.

    Raises:
      ValueError: naming the value and the limit.

    Exactness: p-values hold exactly, whatever the law of the text, up to float32.
    Source: Kirchenbauer et al., 2301.10226, who count all tokens and take z for normal.
    """
    if not isinstance(watermark, GreenList):
        raise ValueError(
            f"count_green reads a GreenList, got {type(watermark).__name__}; detect reads the others"
        )
    own = watermark.validated(1, vocab_size)
    tokens, lengths = checked_texts(tokens, lengths, vocab_size)
    return GreenCount(*_count(vocab_size, own, tokens, lengths))


@functools.partial(jax.jit, static_argnums=0)
def _count(vocab_size, own, tokens, lengths):
    context, width = own.context, tokens.shape[1]
    fraction = jnp.asarray(own.fraction)[0]
    places = jnp.arange(width, dtype=jnp.int32)

    def one(text):
        tokens, size = text
        back = places[:, None] - 1 - jnp.arange(context)
        before = jnp.where(back >= 0, tokens[jnp.maximum(back, 0)], -1)
        runs = jnp.concatenate([tokens[:, None], before], axis=1)
        equal = (runs[:, None] == runs[None]).all(-1)
        new = jnp.argmax(equal, axis=1) == places
        seen = new & (places >= context) & (places < size)

        def green(at):
            token, before = at
            secret = secret_keys(own.secret)
            return is_green(secret, before[None], fraction, vocab_size)[0, token]

        hit = jax.lax.map(green, (tokens, before)) & seen
        return hit.sum(dtype=jnp.int32), seen.sum(dtype=jnp.int32)

    hits, count = jax.lax.map(one, (tokens, lengths))
    h, m = hits.astype(jnp.float32), count.astype(jnp.float32)
    spread = jnp.sqrt(jnp.maximum(m, 1) * fraction * (1 - fraction))
    tail = jax.scipy.special.betainc(jnp.maximum(h, 1), jnp.maximum(m - h + 1, 1), fraction)
    return hits, count, (h - fraction * m) / spread, jnp.where(h > 0, tail, 1.0)
