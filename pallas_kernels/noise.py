"""Gumbel noise inside a kernel, bit for bit that of `jax.random`.

A kernel that draws its own noise neither reads nor writes an array of it. Threefry in its partitionable form makes
number i of a key from the pair (0, i) alone, so that a block of the vocabulary needs nothing of the others.
"""

import jax
import jax.numpy as jnp
import numpy as np

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


def key_words(keys: jax.Array) -> jax.Array:
    """The two words uint32 `[..., 2]` of threefry keys `[...]`; such words pass through.

    Raises:
      ValueError: for keys of another generator, which kernels do not have, or counters that are not partitionable.
    """
    if not jax.threefry_partitionable.value:  # type: ignore[attr-defined]
        raise ValueError("kernels need jax_threefry_partitionable, which is the default of JAX")
    if jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
        if jax.random.key_impl(keys) != "threefry2x32":
            raise ValueError(
                f"kernels draw from threefry2x32 keys, got {jax.random.key_impl(keys)}"
            )
        return jax.random.key_data(keys)
    if keys.dtype != jnp.uint32 or keys.shape[-1:] != (2,):
        raise ValueError(f"keys must be typed or uint32 [..., 2], got {keys.dtype} {keys.shape}")
    return keys


def random_bits(first: jax.Array, second: jax.Array, index: jax.Array) -> jax.Array:
    """Word `index` of the stream of a key: `jax.random.bits(key, (n,))[index]` for any n.

    Args:
      first: uint32, the first word of the key; broadcasts against `index`.
      second: uint32, the second word.
      index: uint32.
    """
    schedule = (first, second, first ^ second ^ _PARITY)
    x, y = jnp.zeros_like(index) + first, index + second
    for round_ in range(5):
        for rotation in _ROTATIONS[round_ % 2]:
            x = x + y
            y = (y << np.uint32(rotation)) | (y >> np.uint32(32 - rotation))
            y = x ^ y
        x = x + schedule[(round_ + 1) % 3]
        y = y + schedule[(round_ + 2) % 3] + np.uint32(round_ + 1)
    return x ^ y


def gumbel(first: jax.Array, second: jax.Array, index: jax.Array, size: int) -> jax.Array:
    """Entry `index` of `jax.random.gumbel(key, (size,), mode="high")`, float32.

    Args:
      first: uint32, the first word of the key; broadcasts against `index`.
      second: uint32, the second word.
      index: uint32, below `size`.
      size: entries of the whole array.
    """
    high = _uniform(random_bits(first, second, index))
    low = _uniform(random_bits(first, second, index + np.uint32(size)))
    tiny, step = np.float32(np.finfo(np.float32).tiny), np.float32(2.0**-23)
    x = jnp.where(high >= 0.5, high, high + step * low + tiny)
    return -jnp.log(-jnp.log1p(-x))


def _uniform(bits: jax.Array) -> jax.Array:
    """In [0, 1): the upper 23 bits as a mantissa."""
    mantissa = (bits >> np.uint32(9)) | np.uint32(0x3F800000)
    return jax.lax.bitcast_convert_type(mantissa, jnp.float32) - 1.0
