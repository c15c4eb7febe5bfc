"""Rows that change places: all sources, cycles among them, and the fewest moves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec.decoding import after, at_home, move_rows, take_rows
from jaxdec.decoding.row_moves import SMALL
from jaxdec.planning import facts
from tests.search.beam_twin import MODEL

ROWS = 6


@pytest.mark.parametrize("size", [3, SMALL // 4])
def test_every_row_has_what_its_source_held(size):
    """Of large rows each that moves is copied by itself; small ones are gathered."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(ROWS, size)), jnp.float32)
    held = {"x": x, "n": jnp.arange(ROWS, dtype=jnp.int32)}
    moved = jax.jit(move_rows)
    sources = [rng.integers(0, ROWS, ROWS) for _ in range(40)]
    sources += [rng.permutation(ROWS) for _ in range(40)]
    sources += [np.arange(ROWS), np.roll(np.arange(ROWS), 1), np.full(ROWS, 4), [1, 0, 3, 2, 5, 4]]
    for source in sources:
        found = moved(held, jnp.asarray(source, jnp.int32))
        np.testing.assert_array_equal(found["n"], source)
        np.testing.assert_array_equal(found["x"], np.asarray(held["x"])[np.asarray(source)])


def test_pasts_that_go_on_stay_and_the_fewest_move():
    rng = np.random.default_rng(1)
    sources = jnp.asarray(rng.integers(0, ROWS, (200, ROWS)), jnp.int32)
    arranged = np.asarray(at_home(sources))
    for source, order in zip(np.asarray(sources), arranged, strict=True):
        assert sorted(order.tolist()) == list(range(ROWS))  # each new hypothesis has a place
        placed = source[order]
        stays = placed == np.arange(ROWS)
        assert stays.sum() == len(set(source.tolist()))
        assert stays[placed].all()  # nobody reads a row that is overwritten


def test_moves_inside_a_loop_copy_no_cache():
    """A cache of two million numbers, moved in place in a loop that reads it first."""
    cache = MODEL.init_cache(8, 1 << 18)

    def steps(cache, sources):
        def step(cache, source):
            total = cache.read(0).keys.sum((1, 2, 3))
            return take_rows(cache, after(source, total)), total

        return jax.lax.scan(step, cache, sources)

    shapes = jax.eval_shape(lambda x: x, cache), jax.ShapeDtypeStruct((4, 8), jnp.int32)
    text = jax.jit(steps, donate_argnums=0).lower(*shapes).compile().as_text()
    found = facts(text)
    assert found["loops"] > 3
    assert found["copied_in_loops"] == []
