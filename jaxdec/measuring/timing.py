"""Timing: methods take turns in one process, and nothing may compile while the clock runs."""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

_COMPILED: list[tuple[str, float]] = []  # programs and the seconds that each took


def _listen(event: str, duration_secs: float, **facts: str | int) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _COMPILED.append((str(facts.get("fun_name", "a program")), duration_secs))


jax.monitoring.register_event_duration_secs_listener(_listen)


def compiled() -> list[str]:
    """Names of the programs that this process has compiled so far, or fetched from where compiled ones are kept."""
    return [name for name, _ in _COMPILED]


@contextlib.contextmanager
def no_compilation() -> Iterator[None]:
    """Raises `RuntimeError` on leaving if anything was compiled inside."""
    before = len(_COMPILED)
    yield
    if fresh := _COMPILED[before:]:
        raise RuntimeError(
            f"{len(fresh)} programs were compiled while the clock ran: "
            + ", ".join(name for name, _ in fresh[:4])
        )


def compile_seconds(method: "Method") -> float:
    """Calls a method once; the seconds that XLA spent on programs that it had not compiled before."""
    before = len(_COMPILED)
    jax.block_until_ready(method.work(method.setup()))
    return sum(seconds for _, seconds in _COMPILED[before:])


@dataclasses.dataclass(frozen=True)
class Method:
    """Something to time.

    Attributes:
      name: unique among the methods that it is compared with.
      work: what is timed; takes what `setup` returns and may donate it.
      setup: runs before each `work`, timed on its own.
    """

    name: str
    work: Callable[[Any], Any]
    setup: Callable[[], Any] = lambda: None


@dataclasses.dataclass(frozen=True)
class Timing:
    """Measurements of a method.

    Attributes:
      seconds: of `work`, one a repeat.
      setup_seconds: of `setup`.
      output: what the last `work` returned.
    """

    seconds: tuple[float, ...]
    setup_seconds: tuple[float, ...]
    output: Any

    @property
    def median(self) -> float:
        """Of `seconds`."""
        return statistics.median(self.seconds)

    @property
    def setup_median(self) -> float:
        """Of `setup_seconds`."""
        return statistics.median(self.setup_seconds)


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The first and the third quartile."""
    if len(values) < 2:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third


def interleave(
    methods: Sequence[Method],
    *,
    repeats: int = 5,
    clock: Callable[[], float] = time.perf_counter,
    report: Callable[[str], None] = lambda name: None,
) -> dict[str, Timing]:
    """Times methods in turns after one untimed call of each: every round calls all, in an order of its own.

    What a method leaves in the caches of the machine helps or harms the next one: in a fixed order the same program
    was measured 10% apart from itself.

    Args:
      methods: of different names.
      repeats: timed calls of each.
      clock: returns seconds.
      report: called with the name of a method before each of its calls, the untimed one too.

    Raises:
      ValueError: if two methods have one name, or `repeats < 1`.
      RuntimeError: if anything compiles after the untimed calls.
    """
    names = [method.name for method in methods]
    if len(set(names)) < len(names):
        raise ValueError(f"methods need different names, got {names}")
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")

    def once(method: Method) -> tuple[float, float, Any]:
        report(method.name)
        start = clock()
        held = jax.block_until_ready(method.setup())
        ready = clock()
        output = jax.block_until_ready(method.work(held))
        # What is no array is not waited for, and would be timed as nothing.
        for leaf in jax.tree.leaves(output):
            if not isinstance(leaf, jax.Array | np.ndarray | float | int):
                raise ValueError(
                    f"{method.name} returned a {type(leaf).__name__}, which nobody waits for"
                )
        return ready - start, clock() - ready, output

    for method in methods:
        once(method)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    outputs = {}
    with no_compilation():
        order = np.random.default_rng(0)
        for _ in range(repeats):
            for place in order.permutation(len(methods)):
                method = methods[place]
                before, during, outputs[method.name] = once(method)
                taken[method.name].append((before, during))
    return {
        name: Timing(
            seconds=tuple(during for _, during in taken[name]),
            setup_seconds=tuple(before for before, _ in taken[name]),
            output=outputs[name],
        )
        for name in names
    }


def ratios(above: Timing, below: Timing) -> list[float]:
    """Seconds over seconds, repeat by repeat: neighbours in time share the state of the machine."""
    return [a / b for a, b in zip(above.seconds, below.seconds, strict=True)]
