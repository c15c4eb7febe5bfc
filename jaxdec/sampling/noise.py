"""Random keys and noise, addressed by row, purpose and place.

No key is ever split over a batch. Each row owns a key; what a decision at some place of that row draws is
`fold_in(row_key, purpose * 2^28 + place)`, where the place is an absolute position or the row's own round counter.
A row therefore draws the same numbers whatever its neighbours, its padding, the chunking of the loop or the number of
devices.
"""

import enum

import jax
import jax.numpy as jnp


class Purpose(enum.IntEnum):
    """What a draw is for. Two decisions never share a (purpose, place)."""

    TOKEN = 0
    """Gumbel noise of the token at an absolute position (plain sampling and the shared-noise walk)."""
    DRAFT = 1
    """A drafter's own draws, by round and depth."""
    ACCEPT = 2
    """Uniforms of acceptance tests, by round and node."""
    RESIDUAL = 3
    """Gumbel noise of the token that closes a round, by round."""
    ORDER = 4
    """Which positions of a canvas are committed, by position and step."""
    HYPOTHESIS = 5
    """Keys of the further hypotheses of a prompt, by hypothesis; folded into the prompt's own key."""


def row_keys(rng: jax.Array, batch: int) -> jax.Array:
    """Returns one key a row, `fold_in(rng, row)`; an array of `batch` keys passes through.

    Args:
      rng: a scalar key, or keys `[B]` that the caller chose for each row.
      batch: B.

    Raises:
      ValueError: if `rng` is neither a scalar key nor `[B]` keys.
    """
    if not jnp.issubdtype(rng.dtype, jax.dtypes.prng_key):
        raise ValueError(f"rng must be a key made by jax.random.key, got dtype {rng.dtype}")
    if rng.shape == (batch,):
        return rng
    if rng.shape != ():
        raise ValueError(f"rng must be one key or {batch} keys (one a row), got shape {rng.shape}")
    return jax.vmap(lambda row: jax.random.fold_in(rng, row))(jnp.arange(batch))


def key_at(keys: jax.Array, purpose: Purpose, *places: jax.Array) -> jax.Array:
    """Returns the keys of a purpose at some places of each row.

    Args:
      keys: row keys `[B]`.
      purpose: what the draw is for.
      *places: int32 coordinates in [0, 2^28), each `[B, ...]` of one common shape; folded in order. The purpose
        rides on the first, since every fold is a whole block of the generator.

    Returns:
      Keys of the common shape of `places`.
    """

    def one(key, first, *rest):
        key = jax.random.fold_in(key, first + jnp.uint32(int(purpose) << 28))
        for coordinate in rest:
            key = jax.random.fold_in(key, coordinate)
        return key

    shape = jnp.broadcast_shapes(*(jnp.shape(place) for place in places))
    keys = jnp.broadcast_to(keys.reshape(keys.shape + (1,) * (len(shape) - 1)), shape)
    places = tuple(jnp.broadcast_to(place, shape).astype(jnp.uint32) for place in places)
    function = one
    for _ in shape:
        function = jax.vmap(function)
    return function(keys, *places)


def gumbel(keys: jax.Array, size: int) -> jax.Array:
    """Standard Gumbel noise `[..., size]` in float32 for keys `[...]`.

    Drawn in the `high` mode: the default mode cuts the upper tail near 16, so that tokens of probability
    below about 1e-7 would never win.
    """
    draw = lambda key: jax.random.gumbel(key, (size,), jnp.float32, mode="high")
    for _ in keys.shape:
        draw = jax.vmap(draw)
    return draw(keys)


def uniform(keys: jax.Array) -> jax.Array:
    """Uniforms in [0, 1) in float32, one for each key; the shape of `keys`."""
    draw = lambda key: jax.random.uniform(key, (), jnp.float32)
    for _ in keys.shape:
        draw = jax.vmap(draw)
    return draw(keys)


def perturbed_argmax(log_probs: jax.Array, noise: jax.Array) -> jax.Array:
    """The token `argmax(log p + noise)`, int32 `[...]`: a draw from p when `noise` is Gumbel.

    Args:
      log_probs: `[..., V]` float32; entries of -inf are never chosen while one finite entry is left.
      noise: `[..., V]` float32.
    """
    return jnp.argmax(log_probs + noise, axis=-1).astype(jnp.int32)
