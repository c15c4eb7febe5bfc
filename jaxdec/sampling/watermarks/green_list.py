"""Green lists: tokens that the secret favours after others. Changes the law: a baseline.

Legend: B rows, V vocabulary, c tokens of context.
"""

import dataclasses
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdec.sampling.broadcast import by_row
from jaxdec.sampling.limits import Limit, checked_knob
from jaxdec.sampling.noise import Purpose, key_at
from jaxdec.sampling.text_before import TextBefore
from jaxdec.sampling.watermarks.contract import Watermark, checked_secret, secret_keys

_FRACTION = Limit(lambda value: (value > 0) & (value < 1), "in (0, 1)")
_BIAS = Limit(lambda value: value == value, "finite (0 = off)")
MOST_CONTEXT = 8


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class GreenList(Watermark):
    """The tokens before a place seed a set of green tokens, whose logits are raised.

        l'(v) = l(v) + bias [v is green after x_{t-c}, ..., x_{t-1}],   P(v is green) = fraction, independently

    A stage of the logits, between the penalties and the temperature: drafts, verification and reported
    log-probabilities see it alike, and a greedy text carries it too. The prompt counts as context; where fewer than c
    tokens stand before a place, nothing is raised.

    Attributes:
      secret: see `Watermark`.
      fraction: in (0, 1), one for all rows or one a row.
      bias: delta, one for all rows or one a row; 0 = off, an exact identity.
      context: c, 1 to 8; static.

    Exactness: heuristic: not distortion-free. The text is no draw from the model's law, nor is it one over secrets.
    Source: Kirchenbauer et al., 2301.10226; there exactly a fraction of the vocabulary is green. Here tokens are green
    independently, which costs no sort and makes the count of green tokens of a foreign text exactly binomial.
    """

    fraction: ArrayLike = 0.25
    bias: ArrayLike = 2.0
    context: int = dataclasses.field(default=1, metadata={"static": True})
    reads_text: ClassVar[bool] = True

    def validated(self, batch: int, vocab_size: int) -> Self:
        """See `Watermark`; secrets are uint32 `[B, 2]`, the others float32 `[B]`."""
        check_context(self.context)
        fraction = checked_knob("watermark fraction", self.fraction, _FRACTION, batch)
        bias = checked_knob("watermark bias", self.bias, _BIAS, batch)
        secret = checked_secret(self.secret, batch)
        return dataclasses.replace(self, secret=secret, fraction=fraction, bias=bias)

    def raised(self, logits: jax.Array, text: TextBefore) -> jax.Array:
        """Logits `[B, ..., V]` after the bias, for the text before each."""
        before = text.back(jnp.arange(self.context))
        fraction = by_row(self.fraction, logits.ndim)
        green = is_green(secret_keys(self.secret), before, fraction, logits.shape[-1])
        return jnp.where(green, logits + by_row(self.bias, logits.ndim), logits)


def is_green(secrets: jax.Array, before: jax.Array, fraction: ArrayLike, size: int) -> jax.Array:
    """Which tokens are green after some others, bool `[B, ..., V]`.

    Args:
      secrets: keys `[B]`.
      before: int32 `[B, ..., c]`, the tokens before, the last one first; no token is green where one of them is
        negative.
      fraction: broadcast against the result.
      size: V.
    """
    places = [jnp.maximum(before[..., i], 0) for i in range(before.shape[-1])]
    draw: Any = lambda key: jax.random.uniform(key, (size,), jnp.float32)
    for _ in places[0].shape:
        draw = jax.vmap(draw)
    known = (before >= 0).all(-1)[..., None]
    return known & (draw(key_at(secrets, Purpose.TOKEN, *places)) < fraction)


def check_context(context: Any) -> None:
    """Raises `ValueError` for another number of tokens than there may be."""
    if (
        not isinstance(context, int)
        or isinstance(context, bool)
        or not 1 <= context <= MOST_CONTEXT
    ):
        raise ValueError(
            f"watermark context: got {context!r}, must be an integer in [1, {MOST_CONTEXT}]"
        )
