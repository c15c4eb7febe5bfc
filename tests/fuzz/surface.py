"""What a fuzzed surface is, and the law that all of them are held to.

A bad input is a `ValueError` of one line that names what is wrong, before anything is traced. A good one is taken, and
gives what it gives alone. Nothing else ever comes out: no other exception, no other value.
"""

import collections
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from hypothesis import strategies as st

LONGEST = 1500
"""Characters of a message at most: it is one line, which may list what there is."""

REFUSED, TAKEN = "refused", "taken"


@dataclasses.dataclass(frozen=True)
class Surface:
    """Something that takes input from outside.

    Attributes:
      name: in tables.
      about: what is tried, in words.
      inputs: of all kinds, good and bad.
      attempt: tries an input: `REFUSED` or `TAKEN`, whichever was right; raises anything else than that as it comes,
        and `AssertionError` where the law is broken.
      short: inputs in the default tests.
      slow: inputs in the slow tests.
      long: inputs of the benchmark.
      part: inputs that are counted together there.
    """

    name: str
    about: str
    inputs: st.SearchStrategy
    attempt: Callable[[Any], str]
    short: int
    slow: int
    long: int
    part: int = 500


_EVENTS: collections.Counter[str] = collections.Counter()
_TRACE = "/jax/core/compile/jaxpr_trace_duration"
_COMPILE = "/jax/core/compile/backend_compile_duration"


def _count(event: str, duration: float, **facts: Any) -> None:
    _EVENTS[event] += 1


jax.monitoring.register_event_duration_secs_listener(_count)


def mixed(*parts: tuple[int, st.SearchStrategy]) -> st.SearchStrategy:
    """Inputs of several kinds, by weights that hold: Hypothesis prefers the ends of a range of integers."""
    chosen = [number for number, (weight, _) in enumerate(parts) for _ in range(weight)]
    return st.sampled_from(chosen).flatmap(lambda number: parts[number][1])


def refused(call: Callable[[], Any], *words: str, inferred: bool = False) -> str:
    """Holds a call with bad input to the law.

    Args:
      call: makes it.
      *words: what the message has to hold.
      inferred: whether shapes may be inferred on the way, for what a network is asked.
    """
    event = _COMPILE if inferred else _TRACE
    before = _EVENTS[event]
    try:
        value = call()
    except ValueError as error:
        check_message(error, *words)
        assert _EVENTS[event] == before, f"refused only after something was traced: {error}"
        return REFUSED
    raise AssertionError(f"taken, should have been refused with {words}: gave {value!r:.300}")


def tried(call: Callable[[], Any], *words: str) -> str:
    """Holds a call whose input may be good or bad to the law."""
    try:
        call()
    except ValueError as error:
        check_message(error, *words)
        return REFUSED
    return TAKEN


def check_message(error: ValueError, *words: str) -> None:
    """Raises `AssertionError` unless a message is one line of a sane length and holds some words."""
    said = str(error)
    assert type(error) is ValueError, f"a {type(error).__name__}: {said}"
    assert said and "\n" not in said and len(said) <= LONGEST, f"no single line: {said!r:.2000}"
    missing = [word for word in words if word not in said]
    assert not missing, f"says nothing of {missing}: {said}"
