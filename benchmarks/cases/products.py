"""Products of few rows with matrices that no cache holds, in several forms, and the same by another library."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.case import Case
from benchmarks.columns import Row, number, spread, word
from benchmarks.setting import Setting
from jaxdec.measuring.timing import Method, interleave, quartiles, ratios

WIDTH, HIDDEN = 512, 2048
ROWS = (1, 2, 4, 8, 16)
STEPS = 4

Form = Callable[[jax.Array, Any], jax.Array]


def plain(x: jax.Array, w: jax.Array) -> jax.Array:
    """One product."""
    return x @ w


def transposed(x: jax.Array, w: jax.Array) -> jax.Array:
    """The weights lie transposed."""
    return jax.lax.dot_general(x, w, (((1,), (1,)), ((), ())))


def by_row(x: jax.Array, w: jax.Array) -> jax.Array:
    """Every row by itself."""
    return jnp.stack([row @ w for row in x])


def in_parts(x: jax.Array, w: Sequence[jax.Array]) -> jax.Array:
    """Columns in eight parts, which may run at once."""
    return jnp.concatenate([x @ part for part in w], axis=-1)


def in_blocks(x: jax.Array, w: jax.Array) -> jax.Array:
    """Columns in blocks that a cache holds, one after the other."""
    _, y = jax.lax.scan(lambda _, block: (None, x @ block), None, w)
    return jnp.moveaxis(y, 0, 1).reshape(len(x), -1)


def _laid_in_blocks(w: np.ndarray) -> np.ndarray:
    return np.moveaxis(w.reshape(len(w), -1, 256), 1, 0)


FORMS: dict[str, tuple[Form, Callable[[np.ndarray], Any]]] = {
    "one product": (plain, lambda w: w),
    "weights transposed": (transposed, lambda w: w.T),
    "every row by itself": (by_row, lambda w: w),
    "columns in 8 parts": (in_parts, lambda w: np.split(w, 8, axis=1)),
    "columns in blocks of 256": (in_blocks, _laid_in_blocks),
}
"""By name: the product, and how the weights are laid out for it."""


@functools.partial(jax.jit, static_argnums=0)
def _chain(form: Form, x: jax.Array, weights: Any, steps: jax.Array) -> jax.Array:
    def body(_, x):
        for up, down in weights:
            x = form(form(x, up), down)
            x = x / (1 + jnp.abs(x))
        return x

    return jax.lax.fori_loop(0, steps, body, x)


def _library(x: np.ndarray, weights: list[tuple[np.ndarray, np.ndarray]]) -> float:
    for _ in range(STEPS):
        y = x
        for up, down in weights:
            y = (y @ up) @ down
            y = y / (1 + np.abs(y))
    return float(y[0, 0])


def run(setting: Setting) -> list[Row]:
    """One row a form and number of rows."""
    layers = 1 if setting.scale.copied < 64 else 12
    draw = np.random.default_rng(0)
    normal = lambda *shape: (draw.standard_normal(shape) / shape[0] ** 0.5).astype(np.float32)
    held = [(normal(WIDTH, HIDDEN), normal(HIDDEN, WIDTH)) for _ in range(layers)]
    methods = []
    for count in ROWS:
        x = normal(count, WIDTH)
        for name, (form, lay) in FORMS.items():
            weights = jax.tree.map(jnp.asarray, [(lay(up), lay(down)) for up, down in held])
            work = functools.partial(_chain, form, jnp.asarray(x), weights, jnp.int32(STEPS))
            methods.append(Method(f"{name} {count}", lambda _, work=work: work()))
        work = functools.partial(_library, x, held)
        methods.append(Method(f"numpy {count}", lambda _, work=work: work()))
    timings = interleave(methods, repeats=setting.scale.repeats)
    rows = []
    for name in (*FORMS, "numpy"):
        for count in ROWS:
            timing = timings[f"{name} {count}"]
            over = ratios(timing, timings["one product 1"])
            rows.append(
                {
                    "form": name,
                    "rows": count,
                    "parameters": 2 * layers * WIDTH * HIDDEN,
                    "seconds": timing.median / STEPS,
                    "ratio": float(np.median(over)),
                    "ratio_quartiles": quartiles(over),
                    "over_own": float(np.median(ratios(timing, timings[f"{name} 1"]))),
                }
            )
    return rows


CASE = Case(
    name="products",
    order=91,
    about=(
        "What a product of few rows costs beside one row, where the weights (a chain of 512 x 2048 and 2048 x 512) "
        "come from memory: what verification of drafts is made of."
    ),
    models=None,
    columns=(
        ("form", word("form")),
        ("rows", number("rows", "d")),
        ("ms", number("seconds", ".2f", 1e3)),
        ("times one row, one product", spread("ratio", ".2f")),
        ("times one row of the same form", number("over_own", ".2f")),
        ("parameters, M", number("parameters", ".1f", 1e-6)),
    ),
    legend="*numpy*: the same by the library that numpy was built with.",
    labels=("form", "rows"),
    run=run,
)
