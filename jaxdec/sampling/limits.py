"""The limits of warp knobs, checked before anything is traced.

Legend: B prompts, H hypotheses, rows of each prompt, V vocabulary.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

SHOWN = 80
"""Characters of a value in a message at most."""


@dataclasses.dataclass(frozen=True)
class Limit:
    """The values that a knob may have.

    Attributes:
      allowed: which of some finite values are legal.
      text: the same in words, and which value switches the stage off.
      integer: whether it must be an integer.
    """

    allowed: Callable[[Any], Any]
    text: str
    integer: bool = False


def is_traced(value: Any) -> bool:
    """Whether a value, or anything in it, is known by shape and type alone: an argument of `jit` or `vmap`."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


def shown(value: Any) -> str:
    """A value as a message shows it: on one line, cut where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 4]} ..."


def as_array(name: str, value: Any, limit: str) -> Any:
    """The value as an array of numpy, or of JAX if it is traced.

    Args:
      name: what the value is called.
      value: anything.
      limit: what it must be, in words.

    Raises:
      ValueError: if it is no array: rows of unequal length, a key.
    """
    try:
        return jnp.asarray(value) if is_traced(value) else np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{name}: got {shown(value)}, must be {limit}") from error


def over_rows(array: Any, ndim: int, batch: int, hypotheses: int) -> Any:
    """A setting that is one for all, one a prompt or one a row, as one a row `[B H, ...]`.

    Args:
      array: `[...]`, `[B, ...]` or `[B H, ...]`, of numpy or traced.
      ndim: axes of one value.
      batch: B.
      hypotheses: H.
    """
    xp: Any = jnp if is_traced(array) else np
    if array.ndim == ndim:
        return xp.broadcast_to(array, (batch * hypotheses, *array.shape))
    if hypotheses == 1 or array.shape[0] != batch:
        return array
    return xp.repeat(array, hypotheses, axis=0)


def checked_knob(name: str, knob: ArrayLike, limit: Limit, batch: int, hypotheses: int = 1) -> Any:
    """The knob as `[B H]`, float32 or int32, if it is within its limits; a traced one has no value yet."""
    known = not is_traced(knob)
    array = as_array(name, knob, limit.text)
    integer = limit.integer
    if not (jnp.issubdtype(array.dtype, jnp.integer) if integer else _is_real(array)):
        raise ValueError(f"{name}: got {shown(knob)} of type {array.dtype}, must be {limit.text}")
    rows = batch * hypotheses
    if array.shape not in ((), (batch,), (rows,)):
        each = f" or ({rows},)" if hypotheses > 1 else ""
        raise ValueError(f"{name}: got shape {array.shape}, must be a scalar or ({batch},){each}")
    if not known:
        array = array.astype(jnp.int32 if integer else jnp.float32)
        return over_rows(array, 0, batch, hypotheses)
    # Tested after rounding to the type that will be used; a k cut here keeps every token anyway.
    rounded = np.minimum(array, np.iinfo(np.int32).max) if integer else _float32(array)
    raise_at_first(name, array, np.isfinite(rounded) & limit.allowed(rounded), limit.text)
    return over_rows(rounded.astype(np.int32) if integer else rounded, 0, batch, hypotheses)


def checked_table(
    name: str, table: ArrayLike, batch: int, vocab_size: int, hypotheses: int = 1
) -> Any:
    """The table as `[B H, V]`, bool for `banned`, else float32, if it is legal; a traced one has no value yet."""
    known = not is_traced(table)
    array = as_array(name, table, "bool" if name == "banned" else "real numbers")
    if name == "banned" and array.dtype != bool:
        raise ValueError(f"{name}: got type {array.dtype}, must be bool")
    if name != "banned" and not _is_real(array):
        raise ValueError(f"{name}: got type {array.dtype}, must be real numbers")
    rows = batch * hypotheses
    if array.shape not in ((vocab_size,), (batch, vocab_size), (rows, vocab_size)):
        each = f" or ({rows}, {vocab_size})" if hypotheses > 1 else ""
        raise ValueError(
            f"{name}: got shape {array.shape}, must be ({vocab_size},) or ({batch}, {vocab_size}){each}"
        )
    if not known:
        array = array.astype(bool if name == "banned" else jnp.float32)
        return over_rows(array, 1, batch, hypotheses)
    if name != "banned":
        given, array = array, _float32(array)
        raise_at_first(name, given, array < np.inf, "finite or -inf (0 = off)")
    return over_rows(array, 1, batch, hypotheses)


def _is_real(array: Any) -> bool:
    """Whether the type is an integer or a float, bfloat16 among them."""
    return jnp.issubdtype(array.dtype, jnp.integer) or jnp.issubdtype(array.dtype, jnp.floating)


def _float32(array: np.ndarray) -> np.ndarray:
    """The array in float32; values out of its range become infinite without a warning."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def raise_at_first(name: str, given: np.ndarray, legal: np.ndarray, limit: str) -> None:
    """Raises, showing the value as it was given, at the first entry that is not legal."""
    if not np.all(legal):
        place = tuple(int(i) for i in np.argwhere(~legal)[0])
        where = f" at {list(place)}" if place else ""
        raise ValueError(f"{name}: got {given[place]!s}{where}, must be {limit}")
