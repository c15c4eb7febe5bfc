"""Knobs that are sequences of tokens, as arrays of one shape: checked before anything is traced.

Legend: B prompts, H hypotheses, rows of each prompt, S words, K tokens of a word at most, F given tokens, E ends,
V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdec.sampling.limits import as_array, is_traced, over_rows, shown
from jaxdec.sampling.text_before import NONE


def checked_words(name: str, words: Any, batch: int, vocab_size: int, hypotheses: int = 1) -> Any:
    """Words `[S, K]` for all, or `[B, S, K]` or `[B H, S, K]`, lists of any lengths or arrays, as int32 `[B H, S, K]`.

    Raises:
      ValueError: naming the value and the limit.
    """
    if _is_array(words):
        return _checked_array(name, words, (2, 3), batch, vocab_size, hypotheses, holes=False)
    rows = list(words) if _is_list(words) else None
    if rows is None or not all(map(_is_list, rows)):
        raise ValueError(
            f"{name}: got {shown(words)}, must be sequences of tokens, such as [[5], [3, 1]]"
        )
    deep = bool(rows) and all(all(map(_is_list, row)) for row in rows) and any(map(len, rows))
    rows = rows if deep else [rows] * batch
    if len(rows) not in (batch, batch * hypotheses):
        raise ValueError(
            f"{name}: got words of {len(rows)} rows, must be of {_counts(batch, hypotheses)}"
        )
    most = max(map(len, rows), default=0)
    for row in rows:
        for word in row:
            if not len(word):
                raise ValueError(f"{name}: got an empty word, must have at least 1 token")
    filled = [[*map(list, row), *[[]] * (most - len(row))] for row in rows]
    flat = _filled(name, [word for row in filled for word in row], vocab_size)
    return over_rows(flat.reshape(len(rows), most, flat.shape[1]), 2, batch, hypotheses)


def checked_sequence(
    name: str,
    sequence: Any,
    batch: int,
    vocab_size: int,
    hypotheses: int = 1,
    *,
    holes: bool = False,
) -> Any:
    """One sequence for all, one a prompt or one a row, lists of any lengths or an array, as int32 `[B H, F]`.

    Raises:
      ValueError: naming the value and the limit.
    """
    if _is_array(sequence):
        return _checked_array(name, sequence, (1, 2), batch, vocab_size, hypotheses, holes=holes)
    rows = list(sequence) if _is_list(sequence) else None
    if rows is None:
        raise ValueError(f"{name}: got {shown(sequence)}, must be tokens, such as [5, 3]")
    deep = bool(rows) and all(map(_is_list, rows))
    rows = rows if deep else [rows] * batch
    if len(rows) not in (batch, batch * hypotheses):
        raise ValueError(
            f"{name}: got {len(rows)} sequences, must be 1 or {_counts(batch, hypotheses)}"
        )
    return over_rows(_filled(name, rows, vocab_size, holes), 1, batch, hypotheses)


def _counts(batch: int, hypotheses: int) -> str:
    """How many there may be: one a prompt, or one a row."""
    return f"{batch} or {batch * hypotheses}" if hypotheses > 1 else f"{batch}"


def _is_array(value: Any) -> bool:
    return is_traced(value) or hasattr(value, "dtype")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes)


def _filled(name: str, rows: Sequence[Any], vocab_size: int, holes: bool = False) -> np.ndarray:
    """Sequences of any lengths, at least 1 wide, `NONE` behind each."""
    width = max([1, *map(len, rows)])
    table = np.full((len(rows), width), NONE, np.int32)
    for i, row in enumerate(rows):
        for place, token in enumerate(row):
            if isinstance(token, bool) or not isinstance(token, int | np.integer):
                raise ValueError(f"{name}: got {shown(token)}, must be a token, an integer")
            _check_token(name, int(token), vocab_size, holes)
            table[i, place] = token
    return table


def _checked_array(
    name: str,
    array: Any,
    dims: tuple[int, int],
    batch: int,
    vocab_size: int,
    hypotheses: int,
    *,
    holes: bool,
) -> Any:
    known = not is_traced(array)
    given = as_array(name, array, "tokens, integers")
    if not jnp.issubdtype(given.dtype, jnp.integer):
        raise ValueError(f"{name}: got type {given.dtype}, must hold tokens, integers")
    counts = (batch, batch * hypotheses)
    if given.ndim not in dims or (given.ndim == dims[1] and given.shape[0] not in counts):
        raise ValueError(
            f"{name}: got shape {given.shape}, must have {dims[0]} dimensions, or {dims[1]}, "
            f"{_counts(batch, hypotheses)} rows first"
        )
    if not known:
        return over_rows(jnp.maximum(given, NONE).astype(jnp.int32), dims[0], batch, hypotheses)
    for token in given.reshape(-1).tolist():
        _check_token(name, token, vocab_size, holes=True)
    if not holes and given.shape[-1] and ((given[..., :-1] < 0) & (given[..., 1:] >= 0)).any():
        raise ValueError(f"{name}: got {NONE} before a token, must be behind all tokens of a word")
    filled: Any = given.astype(np.int32)
    if not filled.shape[-1]:  # every sequence is empty
        filled = np.full((*filled.shape[:-1], 1), NONE, np.int32)
    return over_rows(filled, dims[0], batch, hypotheses)


def _check_token(name: str, token: int, vocab_size: int, holes: bool) -> None:
    if not (NONE if holes else 0) <= token < vocab_size:
        raise ValueError(f"{name}: got token {token}, must lie in [0, {vocab_size})")
