"""EXP: Gumbel noise of a secret key.

Legend: B rows, V vocabulary, n rows of the key, m tokens of a text.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxdec.sampling.noise import Purpose, gumbel, key_at
from jaxdec.sampling.watermarks.contract import KeySequence


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Exponential(KeySequence):
    """Each token is the argmax of its law, perturbed with the Gumbel noise of a row of the key (EXP).

        x_t = argmax_v [ log p(v | x_{<t}) + g_{j,v} ] = argmin_v [ -log(u_{j,v}) / p(v | x_{<t}) ],   j = (s + t) mod n

    with `g = -log(-log u)` and u uniform by the secret. Over secrets this is a draw from p; it is the draw of plain
    decoding with other noise, so that speculation with the shared-noise walk gives the same tokens.

    A token y costs `log(1 - u_{j,y})` at row j: the chosen tokens have large u.

    Attributes:
      secret: see `Watermark`.
      length: n; see `KeySequence`.

    Exactness: distortion-free: distribution-identical over the secret, for texts of at most n tokens. At temperature 0
    the law is certain, and no watermark is drawn.
    Source: Kuditipudi et al., 2307.15593; Gumbel noise for it is Aaronson's.
    """

    gap: ClassVar[float] = 0.0

    def noise(self, keys: jax.Array, places: jax.Array, vocab_size: int) -> jax.Array:
        """See `KeySequence`."""
        return gumbel(self.rows(keys, places), vocab_size)

    @classmethod
    def costs(cls, secret: jax.Array, tokens: jax.Array, length: int, vocab_size: int) -> jax.Array:
        """See `KeySequence`; a row of the key at a time, so that n V numbers are never stored."""

        def row(place):
            return _cost(gumbel(key_at(secret[None], Purpose.TOKEN, place[None]), vocab_size)[0])[
                tokens
            ]

        return jax.lax.map(row, jnp.arange(length, dtype=jnp.int32))

    @classmethod
    def random_costs(
        cls, key: jax.Array, tokens: jax.Array, first: jax.Array, length: int, vocab_size: int
    ) -> jax.Array:
        """See `KeySequence`; noise is drawn of the text's own tokens alone."""
        del vocab_size
        return _cost(gumbel(key[None], length * tokens.shape[0])[0]).reshape(length, -1)[:, first]


def _cost(noise: jax.Array) -> jax.Array:
    """log(1 - u) by the Gumbel noise of u = exp(-exp(-g)), without the loss of a difference from 1."""
    return jnp.log(-jnp.expm1(-jnp.exp(-noise)))
