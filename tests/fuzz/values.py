"""Values that are not what an argument takes, and good ones in all their forms.

A strategy of wrong values gives pairs `(value, words)`: the words that a message about it has to hold.
"""

import decimal
import fractions
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

BATCH = 3
"""Rows of every batch that is decoded."""


JUNK: dict[str, Any] = {
    "a word": lambda: "hot",
    "no word": lambda: "",
    "bytes": lambda: b"\xff",
    "a complex number": lambda: 1j,
    "a dict": lambda: {"a": 1},
    "a set": lambda: {1, 2},
    "an object": lambda: object(),
    "a class": lambda: int,
    "a function": lambda: len,
    "a generator": lambda: (i for i in range(3)),
    "nothing in a list": lambda: [None],
    "words in a list": lambda: ["1", "2", "3"],
    "rows of unequal length": lambda: [[1], [2, 3], []],
    "a key": lambda: jax.random.key(0),
    "an empty key": lambda: jax.random.split(jax.random.key(0), 3)[:0],
    "a shape": lambda: jax.ShapeDtypeStruct((3,), np.float32),
    "a date": lambda: np.datetime64("2026-01-01"),
    "a decimal": lambda: decimal.Decimal("0.5"),
    "a fraction": lambda: fractions.Fraction(1, 2),
    "more than a float holds": lambda: 10**400,
    "an ellipsis": lambda: ...,
    "a slice": lambda: slice(3),
    "records": lambda: np.zeros(3, [("a", int), ("b", float)]),
    "an array of words": lambda: np.array("x"),
    "an array of objects": lambda: np.array([object()] * 3),
    "five dimensions": lambda: np.zeros((1, 1, 1, 1, 1)),
    "complex numbers": lambda: np.zeros(3, complex),
    "a view of memory": lambda: memoryview(b"ab"),
    "a dict of arrays": lambda: {"target": jnp.zeros(3)},
}
"""What no number, no tokens and no table is, by name."""


class Thing:
    """A value of `JUNK`, made anew each time it is used; shown by its name."""

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def make(self) -> Any:
        return JUNK[self.name]()


junk = st.sampled_from(sorted(JUNK)).map(Thing)


def made(value: Any) -> Any:
    """A value as it is given: things are made, all else is left as it is."""
    return value.make() if isinstance(value, Thing) else value


def forms(value: Any) -> list[Any]:
    """A number or list of numbers in the forms that a caller may have it in."""
    found = [value, np.asarray(value), jnp.asarray(np.asarray(value))]
    return [*found, tuple(value)] if isinstance(value, list) else found


@st.composite
def in_some_form(draw: Any, values: st.SearchStrategy) -> Any:
    value = draw(values)
    choice = draw(st.integers(0, 3))
    if choice == 0:
        return np.asarray(value)
    if choice == 1 and isinstance(value, list):
        return tuple(value)
    return value


def by_row(values: st.SearchStrategy) -> st.SearchStrategy:
    """One value for all rows, or one a row."""
    return in_some_form(values | st.lists(values, min_size=BATCH, max_size=BATCH))


def row_of(value: Any, row: int) -> Any:
    """What one row gets of a value that may be one a row."""
    return value if np.ndim(value) == 0 else np.asarray(value)[row : row + 1]


def reals(low: float, high: float, **options: Any) -> st.SearchStrategy:
    return st.floats(float(np.float32(low)), float(np.float32(high)), width=32, **options)


def _outside(name: str, low: float, high: float, shut: bool = True) -> st.SearchStrategy:
    """Numbers below `low` and above `high`; the limits themselves too if they are not allowed."""
    found = [st.sampled_from([np.nan, np.inf, -np.inf])]
    if low > -np.inf:
        found.append(st.floats(-1e30, float(np.nextafter(np.float32(low), np.float32(-1e30)))))
    if high < np.inf:
        above = float(np.nextafter(np.float32(high), np.float32(1e30)))
        found.append(st.floats(above * (1 + 1e-6), 1e30))
    if not shut:
        found.append(st.just(low))
    return st.one_of(found)


def wrong_reals(
    name: str, low: float, high: float = np.inf, shut: bool = True
) -> st.SearchStrategy:
    """What a setting that is a number does not take: values, types, shapes."""
    outside = _outside(name, low, high, shut)
    return st.one_of(
        outside.map(lambda x: (x, (name, f"{x!s:.4}"))),
        outside.map(lambda x: ([x] * BATCH, (name, "[0]"))),
        st.sampled_from([[0.5] * 2, [[0.5] * BATCH], [], True, [True] * BATCH]).map(
            lambda x: (x, (name,))
        ),
        junk.map(lambda x: (x, (name,))),
    )


def wrong_integers(
    name: str, low: int, high: int = 2**31 - 1, rows: bool = True
) -> st.SearchStrategy:
    """What a setting that is an integer does not take."""
    outside = st.integers(-(2**80), low - 1)
    if high < 2**80:
        outside |= st.integers(high + 1, 2**80)
    wrong = st.sampled_from(
        [2.5, 1.0, np.nan, np.inf, [1] * 2, [[1] * BATCH], [1.0] * BATCH, True, [True] * BATCH]
        + [[], np.zeros(0, int)] * rows
    )
    return st.one_of(
        outside.map(lambda x: (x, (name,))),
        outside.map(lambda x: ([x] * BATCH, (name,))),
        wrong.map(lambda x: (x, (name,))),
        junk.map(lambda x: (x, (name,))),
    )


def wrong_tokens(vocab_size: int) -> st.SearchStrategy:
    """Integers that are no tokens."""
    return st.integers(-(2**70), -1) | st.integers(vocab_size, 2**70)
