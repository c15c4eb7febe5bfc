"""One kernel at one shape: checked against its reference, and timed in a loop of calls."""

import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pallas_kernels
from benchmarks.columns import Row
from benchmarks.kernel_entries import Arguments, Entry
from benchmarks.setting import Setting
from jaxdec.measuring.timing import Method, Timing, compile_seconds, interleave, quartiles, ratios
from pallas_kernels import Implementation

PLAIN = "plain XLA"


def timed(entry: Entry, implementation: Implementation, setting: Setting) -> list[Row]:
    """One row a method: the kernel, plain XLA and the public alternatives. A method that fails has a note instead."""
    scale, arguments = setting.scale, entry.arguments()
    candidates: dict[str, tuple[Callable[..., Any], Arguments, Callable[[Any], Any]]] = {
        implementation: (chosen(entry, implementation), arguments, lambda out: out),
        PLAIN: (chosen(entry, "reference"), arguments, lambda out: out),
    }
    for other in entry.alternatives:
        prepared = jax.jit(other.prepare)(*arguments)
        candidates[other.name] = (other.function, prepared, other.finish)

    with jax.default_matmul_precision("highest"):
        wanted = jax.jit(chosen(entry, "reference"))(*arguments)
    wanted = entry.compared(arguments, wanted)
    least = entry.least_bytes(arguments)
    rows, methods = {}, []
    for name, (function, given, finish) in candidates.items():
        row: Row = {"operation": entry.operation, "shape": entry.name, "method": name}
        rows[name] = row | {"device": jax.devices()[0].device_kind, "least_bytes": least}
        try:
            found = entry.compared(arguments, finish(jax.jit(function)(*given)))
            # A public function may have the first output alone.
            pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=False)
            error, different = disagreement(list(pairs))
            method = loop(name, function, given, scale.steps, entry.in_place)
            seconds = compile_seconds(method)
        except Exception as failure:  # the others are still worth their rows
            rows[name]["note"] = f"{type(failure).__name__}: {failure}".splitlines()[0][:200]
            continue
        rows[name] |= {
            "error": error if np.isfinite(error) else None,
            "different": different,
            "correct": error <= entry.tolerance and different <= entry.different,
            "compile_seconds": seconds,
        }
        methods.append(method)
    timings = interleave(methods, repeats=scale.repeats)
    for name, timing in timings.items():
        rows[name] |= figures(timing, timings.get(PLAIN), least, setting)
    return list(rows.values())


def chosen(entry: Entry, implementation: Implementation) -> Callable[..., Any]:
    """The operation by one implementation."""

    def function(*arguments):
        with pallas_kernels.use(implementation):
            return entry.function(*arguments)

    return function


def figures(timing: Timing, plain: Timing | None, least: int, setting: Setting) -> Row:
    """Seconds of one call, and what follows from them."""
    steps = setting.scale.steps
    seconds = timing.median / steps
    ratio = None if plain is None or plain is timing else ratios(plain, timing)
    return {
        "seconds": seconds,
        "seconds_quartiles": [x / steps for x in quartiles(timing.seconds)],
        "repeats": len(timing.seconds),
        "wall_ratio": ratio and statistics.median(ratio),
        "wall_ratio_quartiles": ratio and quartiles(ratio),
        "bytes_per_second": least / seconds,
        "bandwidth_share": least / seconds / setting.bandwidth,
    }


def loop(
    name: str, function: Callable[..., Any], arguments: Arguments, steps: int, in_place: bool
) -> Method:
    """`steps` calls inside one compiled loop, each behind the one before it.

    A barrier between calls keeps the compiler from moving any work out of the loop.
    """
    barrier = jax.lax.optimization_barrier

    def first(tree):
        return jax.tree.leaves(tree)[0].reshape(-1)[0].astype(jnp.float32)

    if in_place:

        def run(held, rest, steps):
            def body(_, carry):
                held, token = carry
                given, _ = barrier((rest, token))
                held = function(held, *given)
                return held, first(held)

            return jax.lax.fori_loop(0, steps, body, (held, jnp.float32(0)))

        jitted = jax.jit(run, donate_argnums=0)
        fresh = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))
        return Method(
            name,
            lambda held: jitted(held, arguments[1:], steps),
            lambda: fresh(arguments[0]),
        )

    @jax.jit
    def repeated(arguments, steps):
        def body(_, token):
            given, _ = barrier((arguments, token))
            return first(barrier(function(*given)))

        return jax.lax.fori_loop(0, steps, body, jnp.float32(0))

    return Method(name, lambda _: repeated(arguments, steps))


def disagreement(pairs: list[tuple[jax.Array, jax.Array]]) -> tuple[float, float]:
    """The largest `|a - b| / (1 + |b|)` of floats, and the share of integers that differ.

    NaN and infinities must stand at the same places; else the error is infinite.
    """
    error, unequal, total = 0.0, 0, 0
    for found, wanted in pairs:
        if not jnp.issubdtype(wanted.dtype, jnp.floating):
            unequal, total = unequal + int((found != wanted).sum()), total + wanted.size
            continue
        error = max(error, float(_largest(found, wanted)))
    return error, unequal / max(total, 1)


@jax.jit
def _largest(found: jax.Array, wanted: jax.Array) -> jax.Array:
    a, b = found.astype(jnp.float32), wanted.astype(jnp.float32)
    same = (a == b) | (jnp.isnan(a) & jnp.isnan(b))
    distance = jnp.abs(a - b) / (1 + jnp.abs(b))
    distance = jnp.where(jnp.isfinite(a) & jnp.isfinite(b), distance, np.inf)
    return jnp.max(jnp.where(same, 0.0, distance))
