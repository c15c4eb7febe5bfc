"""What selection rules are given, as arrays: shapes and types checked, values where they are known.

Legend: N samples of a prompt; leading axes `[...]` are prompts.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.sampling import as_array, is_traced, shown


def reals(name: str, value: Any, ndim: int = 0) -> jax.Array:
    """Real numbers: float64 as they are, all other types as float32.

    Args:
      name: what the value is called in a message.
      value: real numbers or integers.
      ndim: axes at least.

    Raises:
      ValueError: for another type, or fewer axes.
    """
    given = as_array(name, value, "real numbers")
    if not any(jnp.issubdtype(given.dtype, kind) for kind in (jnp.floating, jnp.integer)):
        raise ValueError(f"{name} must hold real numbers, got {given.dtype}")
    _check_axes(name, given, ndim)
    array = jnp.asarray(given)
    return array if array.dtype == jnp.float64 else array.astype(jnp.float32)


def whole(name: str, value: Any, ndim: int = 0, low: int | None = None) -> jax.Array:
    """Integers, as int32.

    Args:
      name: what the value is called in a message.
      value: integers.
      ndim: axes at least.
      low: the least value; None if there is none.

    Raises:
      ValueError: for another type, fewer axes or a known value below `low` or out of int32.
    """
    given = as_array(name, value, "integers")
    if not jnp.issubdtype(given.dtype, jnp.integer):
        raise ValueError(f"{name} must hold integers, got {given.dtype}")
    _check_axes(name, given, ndim)
    if not is_traced(value):
        bounds = np.iinfo(np.int32)
        least = bounds.min if low is None else low
        outside = (given < least) | (given > bounds.max)
        if outside.any():
            raise ValueError(
                f"{name} must lie in [{least}, {bounds.max}], got {given[outside].reshape(-1)[0]}"
            )
    return jnp.asarray(given).astype(jnp.int32)


def flags(name: str, value: Any, shape: tuple[int, ...]) -> jax.Array:
    """Which samples count, bool of a shape; None for all of them.

    Raises:
      ValueError: for another type or shape.
    """
    if value is None:
        return jnp.ones(shape, bool)
    given = as_array(name, value, "bool")
    if given.dtype != bool:
        raise ValueError(f"{name} must be bool, got {given.dtype}")
    check_shape(name, given, shape)
    return jnp.asarray(given)


def check_shape(name: str, array: Any, shape: tuple[int, ...]) -> None:
    """Raises `ValueError` unless an array has a shape."""
    if tuple(array.shape) != tuple(shape):
        raise ValueError(f"{name} must have shape {list(shape)}, got {list(array.shape)}")


def check_word(name: str, value: Any, words: tuple[str, ...]) -> None:
    """Raises `ValueError` for a rule that there is not."""
    if value not in words:
        raise ValueError(f"{name} must be one of {', '.join(words)}, got {shown(value)}")


def first(chosen: jax.Array) -> jax.Array:
    """The first place along the last axis that is chosen, int32 `[...]`; -1 if there is none."""
    return jnp.where(chosen.any(-1), jnp.argmax(chosen, -1), -1).astype(jnp.int32)


def at(array: jax.Array, index: jax.Array) -> jax.Array:
    """What stands at a place of the last axis, `[...]`; that of place 0 where there is none (-1)."""
    return jnp.take_along_axis(array, jnp.maximum(index, 0)[..., None], -1)[..., 0]


def _check_axes(name: str, array: Any, ndim: int) -> None:
    if array.ndim < ndim or (ndim and not array.shape[-1]):
        raise ValueError(
            f"{name} must have at least {ndim} axes, the last of at least 1, got {list(array.shape)}"
        )
