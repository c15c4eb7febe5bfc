"""Arguments of the functions that make parts: held to their annotations before anything looks at them.

Parts are made by hand, in notebooks, from numbers and other parts. A number in a part's place would else end in
whatever Python says of the first operation on it.
"""

import collections.abc
import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np

from jaxdec.sampling.limits import shown

P = ParamSpec("P")
R = TypeVar("R")

LARGEST = (1 << 31) - 1
"""The largest size that an array of JAX can have along an axis."""


def typed(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which raises `ValueError` for an argument of another type than its annotation says.

    Numbers, words, parts, models, and sequences of numbers are checked, with None where it is allowed; an annotation of
    any other kind is left alone. An integer is no bool and fits in int32; a real number is no NaN. Integers of numpy
    are given on as those of Python, which can do more.
    """
    signature = inspect.signature(function)

    @functools.cache
    def hints() -> dict[str, Any]:
        return typing.get_type_hints(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            check_type(name, value, hints().get(name, Any))
            if isinstance(value, np.integer):
                bound.arguments[name] = int(value)
        return function(*bound.args, **bound.kwargs)

    return call


def check_type(name: str, value: Any, hint: Any) -> None:
    """Raises `ValueError`, with what is wanted and given, for a value that is not of the annotation's type."""
    choices = _choices(hint)
    if any(_fits(value, choice) for choice in choices):
        return
    wanted = " or ".join(_words(choice) for choice in choices)
    plain = value is None or isinstance(value, bool | int | float | str | bytes | list | tuple)
    got = shown(value) if plain else getattr(value, "__name__", type(value).__name__)
    call = f"; call it: {got}()" if callable(value) and hasattr(value, "__name__") else ""
    raise ValueError(f"{name} must be {wanted}, got {got}{call}")


def check_fields(value: Any) -> None:
    """Raises `ValueError` for a field of a dataclass that is not of its annotation's type, as `check_type` does."""
    kind: Any = type(value)
    for name, hint in _hints(kind).items():
        check_type(name, getattr(value, name), hint)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _choices(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return typing.get_args(hint)
    return (hint,)


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if hint is None or hint is types.NoneType:
        return value is None
    if hint is bool:
        return isinstance(value, bool | np.bool_)
    if hint is int:
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        return whole and -LARGEST <= value <= LARGEST
    if hint is float:
        if isinstance(value, jax.Array):
            return value.shape == () and jax.numpy.issubdtype(value.dtype, np.number)
        real = isinstance(value, int | float | np.integer | np.floating)
        return real and not isinstance(value, bool) and abs(value) < float("inf")
    if origin is typing.Literal:
        return isinstance(
            value, str
        )  # which word it is the function looks up: it knows the nearest
    if origin in (collections.abc.Sequence, collections.abc.Iterable, tuple) and inner:
        several = isinstance(value, list | tuple | set | frozenset | range | np.ndarray)
        if not several or (isinstance(value, np.ndarray) and not value.ndim):
            return origin is collections.abc.Iterable and isinstance(
                value, collections.abc.Iterator
            )
        return all(_fits(each, inner[0]) for each in value)
    if inspect.isclass(hint) and not inner and hint is not object:
        return isinstance(value, hint)
    return True


def _words(hint: Any) -> str:
    known = {int: "an integer", float: "a finite number", bool: "True or False", str: "a word"}
    if hint is None or hint is types.NoneType:
        return "None"
    if hint in known:
        return known[hint]
    if typing.get_origin(hint) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(hint)))}"
    if typing.get_origin(hint) is not None:
        return f"several, each {_words(typing.get_args(hint)[0])}"
    name = getattr(hint, "__name__", str(hint))
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"
