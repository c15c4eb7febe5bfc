"""ITS: uniforms of a secret key, turned into tokens by the inverse of the distribution function.

Legend: B rows, V vocabulary, n rows of the key, m tokens of a text.
"""

import dataclasses
import functools
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.sampling.broadcast import by_token
from jaxdec.sampling.limits import is_traced
from jaxdec.sampling.noise import Purpose, key_at, uniform
from jaxdec.sampling.watermarks.contract import KeySequence, checked_secret, secret_keys

_AHEAD = 1e3
"""More than log-probabilities of tokens that float32 tells from impossible ones differ by."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class InverseTransform(KeySequence):
    """Each token is where the distribution function of its law, over a secret order, passes a uniform of the key (ITS).

        x_t = first v in the order pi with  sum_{w up to v in pi} p(w | x_{<t}) > u_j,   j = (s + t) mod n

    The intervals that tokens have on [0, 1) are as long as they are probable, whatever pi: over secrets this is a draw
    from p.

    A token y costs `|u_j - (rank of y in pi + 1/2) / V|` at row j.

    Attributes:
      secret: see `Watermark`.
      length: n; see `KeySequence`.
      order: int32 `[B, V]`, pi, the tokens by rank; made of the secret by `validated`.

    Exactness: distortion-free: distribution-identical over the secret, for texts of at most n tokens, up to the float32
    of sums over the vocabulary. At temperature 0 the law is certain, and no watermark is drawn.
    Source: Kuditipudi et al., 2307.15593.
    """

    order: Any = None
    gap: ClassVar[float] = 0.4

    def validated(self, batch: int, vocab_size: int) -> Self:
        """See `Watermark`."""
        few = checked_secret(self.secret, 1) if _is_one(self.secret) else None
        checked = super().validated(batch, vocab_size)
        order = _orders(checked.secret if few is None else few, vocab_size)
        if is_traced(order):
            return dataclasses.replace(checked, order=jnp.broadcast_to(order, (batch, vocab_size)))
        order = np.broadcast_to(np.asarray(order), (batch, vocab_size))
        return dataclasses.replace(checked, order=order)

    def noise(self, keys: jax.Array, places: jax.Array, vocab_size: int) -> jax.Array:
        """See `KeySequence`; one uniform a place, the same for all tokens."""
        u = uniform(self.rows(keys, places))
        return jnp.broadcast_to(u[..., None], (*u.shape, vocab_size))

    def settled(self, log_probs: jax.Array, noise: jax.Array) -> jax.Array:
        """See `KeySequence`: the token of the uniform, put ahead of all others."""
        order = by_token(self.order, log_probs.ndim)
        token = inverse_transform(jnp.exp(log_probs), order, noise[..., 0])
        here = jnp.arange(log_probs.shape[-1]) == token[..., None]
        return jnp.where(here, jnp.float32(_AHEAD), jnp.float32(0))

    @classmethod
    def costs(cls, secret: jax.Array, tokens: jax.Array, length: int, vocab_size: int) -> jax.Array:
        """See `KeySequence`."""
        places = jnp.arange(length, dtype=jnp.int32)
        u = uniform(key_at(secret[None], Purpose.TOKEN, places[None])[0])
        ranks = jnp.argsort(_order(secret, vocab_size))[tokens].astype(jnp.float32)
        return jnp.abs(u[:, None] - (ranks + 0.5) / vocab_size)


def inverse_transform(probs: jax.Array, order: jax.Array, u: jax.Array) -> jax.Array:
    """The token at which a distribution function passes u, its tokens taken in some order.

        x = pi_r,   r = min { r : F_r > u F_V and p(pi_r) > 0 },   F_r = sum_{i <= r} p(pi_i)

    Args:
      probs: p, `[..., V]`, of any float type; not necessarily normalised.
      order: int32 `[..., V]`, pi, broadcast against p.
      u: `[...]`, in [0, 1).

    Returns:
      int32 `[...]`. A token of probability 0 is never chosen while another is left.
    """
    ordered = jnp.take_along_axis(probs, order, axis=-1)
    sums = jnp.cumsum(ordered, axis=-1)
    # Sums of floats need not grow where nothing is added, hence the second condition, and may end below u.
    passed = (sums > (u * sums[..., -1])[..., None]) & (ordered > 0)
    size = probs.shape[-1]
    last = size - 1 - jnp.argmax(ordered[..., ::-1] > 0, axis=-1)
    rank = jnp.where(passed.any(-1), jnp.argmax(passed, axis=-1), last)
    order = jnp.broadcast_to(order, ordered.shape)
    return jnp.take_along_axis(order, rank[..., None], axis=-1)[..., 0].astype(jnp.int32)


def _is_one(secret: Any) -> bool:
    return np.ndim(secret) == 0


@functools.partial(jax.jit, static_argnums=1)  # one dispatch, not one an operation
def _orders(secrets: Any, vocab_size: int) -> jax.Array:
    return jax.vmap(lambda key: _order(key, vocab_size))(secret_keys(secrets))


def _order(secret: jax.Array, vocab_size: int) -> jax.Array:
    """The order of the tokens by a secret, int32 `[V]`."""
    key = key_at(secret[None], Purpose.ORDER, jnp.zeros((1,), jnp.int32))[0]
    return jax.random.permutation(key, jnp.arange(vocab_size, dtype=jnp.int32))
