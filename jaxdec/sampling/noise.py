"""Random keys and noise, addressed by row, purpose and place.

No key is ever split over a batch. Each row owns a key; what a decision at some place of that row draws is
`fold_in(row_key, purpose * 2^28 + place)`, where the place is an absolute position or the row's own round counter.
A row therefore draws the same numbers whatever its neighbours, its padding, the chunking of the loop or the number of
devices.
"""

import enum
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.sampling.limits import as_array, is_traced, shown


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
    BOUNDARY = 6
    """What is drawn where the segments of a prompt's hypotheses end, by the number of such places before."""
    SEGMENT = 7
    """Keys of a row that took the past of another hypothesis, by how often it did; folded into the row's own key."""
    WATERMARK = 8
    """Where a text begins on the key of a watermark; at place 0."""
    PROPOSAL = 9
    """Further draws for the positions of a group, by position, step and proposal; which one is taken, by 0 and step."""


def as_key(rng: Any) -> jax.Array:
    """A key, or keys of any shape, as they are; the key of an integer seed; a key for each of several seeds.

    The key of seed s of several is `fold_in(key(s), 0)`: a prompt with a seed of its own is decoded as it is alone with
    `rng=s`.

    Args:
      rng: made by `jax.random.key`, an integer in [0, 2^32), or a list or array `[P]` of such integers.

    Raises:
      ValueError: for anything else.
    """
    if isinstance(rng, jax.Array) and jnp.issubdtype(rng.dtype, jax.dtypes.prng_key):
        return rng
    if isinstance(rng, (int, np.integer)) and not isinstance(rng, bool):
        if not 0 <= rng < 1 << 32:
            raise ValueError(f"rng must be a seed in [0, {1 << 32}), got {rng}")
        return jax.random.key(np.uint32(rng))
    # A jax array of uint32 is a key of the old kind, whose two numbers are no seeds.
    old = isinstance(rng, jax.Array) and rng.dtype == jnp.uint32
    if isinstance(rng, list | tuple | np.ndarray | jax.Array) and not old:
        seeds = as_array("rng", rng, "a list of seeds")
        if seeds.ndim == 1 and seeds.size:
            return _keys_of_seeds(_seeds(seeds))
    got = getattr(rng, "dtype", None)
    raise ValueError(
        "rng must be a key made by jax.random.key, an integer seed, or a list of seeds, got "
        + (f"dtype {got}" if got is not None else shown(rng))
    )


def _seeds(given: Any) -> Any:
    """Seeds as uint32 `[P]`; what is traced is checked by type alone."""
    known = not is_traced(given)
    if not jnp.issubdtype(given.dtype, jnp.integer):
        raise ValueError(f"rng must hold integer seeds, got dtype {given.dtype}")
    if known and ((given < 0) | (given >= 1 << 32)).any():
        outside = given[(given < 0) | (given >= 1 << 32)][0]
        raise ValueError(f"rng must hold seeds in [0, {1 << 32}), got {outside}")
    return given.astype(np.uint32)


@jax.jit
def _keys_of_seeds(seeds: jax.Array) -> jax.Array:
    return jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), 0))(seeds)


def row_keys(rng: Any, batch: int, hypotheses: int = 1) -> jax.Array:
    """One key a row: hypothesis 0 of a prompt has the prompt's own, the others a fold of it.

        key[p H + h] = fold_in(rng, p)                                       for h = 0
                       fold_in(fold_in(rng, p), HYPOTHESIS * 2^28 + h)       for h > 0

    Args:
      rng: a scalar key or seed, or keys or seeds `[B / H]` that the caller chose for each prompt, or `[B]`, whose keys
        pass through.
      batch: B.
      hypotheses: H, adjacent rows that share a prompt.

    Raises:
      ValueError: if `rng` is neither of these.
    """
    prompts = batch // hypotheses
    shapes = ((), (prompts,), (batch,))
    if isinstance(rng, list | tuple | np.ndarray):  # seeds are counted before keys are made of them
        rng = as_array("rng", rng, "a list of seeds")
    few = isinstance(rng, np.ndarray) and rng.ndim == 1 and rng.shape not in shapes
    rng = rng if few else as_key(rng)
    if rng.shape == (batch,):
        return rng
    if rng.shape not in shapes:
        raise ValueError(
            f"rng must be one key or {prompts} keys (one a row), got shape {rng.shape}"
            if hypotheses == 1
            else f"rng must be one key, {prompts} keys (one a prompt) or {batch} (one a row), got shape {rng.shape}"
        )
    return _row_keys(rng, prompts, hypotheses)


@functools.partial(jax.jit, static_argnums=(1, 2))  # one dispatch, not one an operation
def _row_keys(rng: jax.Array, prompts: int, hypotheses: int) -> jax.Array:
    keys = rng
    if not rng.shape:
        own = jnp.arange(prompts, dtype=jnp.uint32)
        keys = jax.vmap(lambda prompt: jax.random.fold_in(rng, prompt))(own)
    if hypotheses == 1:
        return keys
    others = jnp.broadcast_to(jnp.arange(1, hypotheses), (prompts, hypotheses - 1))
    others = key_at(keys, Purpose.HYPOTHESIS, others)
    return jnp.concatenate([keys[:, None], others], axis=1).reshape(-1)


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
