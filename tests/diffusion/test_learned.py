"""Policies with a trained head: their law summed over all subsets, what they reduce to, and whom they look at."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec.diffusion import unmask
from jaxdec.diffusion.unmask.learned import chances, log_likelihood, sureness
from jaxdec.model import PositionHead
from jaxdec.models import FinalityConfig, UnmaskingConfig, build_heads
from jaxdec.testing.parts import policy_twins as twins
from jaxdec.testing.parts.policy_twins import ROWS, Board, places_of
from tests.diffusion.test_policies import assert_law, plain

pytestmark = pytest.mark.usefixtures("quick_compilation")


def knobs(temperature=1.0, beta=1.0, rows=ROWS):
    full = lambda x: jnp.broadcast_to(jnp.float32(x), (rows,))
    return {"policy_temperature": full(temperature), "beta": full(beta)}


def table(logits):
    """A head that says the same whatever it sees."""
    return PositionHead(lambda params, seen: jnp.broadcast_to(params, seen.confidence.shape)), (
        jnp.asarray(logits, jnp.float32)
    )


def law(logits, allowed, fallback):
    """The probability of every set of positions, by its coins."""
    found = {}
    chance = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    for coins in itertools.product([False, True], repeat=len(logits)):
        if any(c and not a for c, a in zip(coins, allowed, strict=True)):
            continue
        own = np.prod(
            [s if c else 1 - s for s, c, a in zip(chance, coins, allowed, strict=True) if a]
        )
        chosen = list(coins)
        if fallback and not any(coins):
            best = max((i for i, a in enumerate(allowed) if a), key=lambda i: (logits[i], -i))
            chosen[best] = True
        found[tuple(chosen)] = found.get(tuple(chosen), 0.0) + own
    return found


@pytest.mark.parametrize("fallback", [True, False])
def test_the_likelihood_of_every_set(fallback):
    generator = np.random.default_rng(3)
    logits = generator.normal(size=6) * 2
    allowed = np.array([1, 1, 0, 1, 1, 1], bool)
    expected = law(logits, allowed, fallback)
    sets = np.array(list(expected))
    own = log_likelihood(
        jnp.asarray(logits, jnp.float32), jnp.asarray(sets), jnp.asarray(allowed), fallback=fallback
    )
    np.testing.assert_allclose(np.exp(own), list(expected.values()), rtol=2e-5)
    assert np.exp(own).sum() == pytest.approx(1, abs=1e-5)


def test_sets_are_drawn_by_that_law():
    """Rows differ by their keys alone; chances are doubled in half of them."""
    logits = np.array([-1.0, 0.3, -2.0, -0.5])
    head, params = table(logits)
    rows = 8000
    seen = plain(rows, 4, np.full(rows, 4), 0, 4)
    beta = np.where(np.arange(rows) % 2, 2.0, 1.0)
    chosen, _ = jax.jit(unmask.learned(head).choose)(
        params, seen, None, {**knobs(rows=rows), "beta": jnp.asarray(beta, jnp.float32)}
    )
    chosen = np.asarray(chosen) @ [1, 2, 4, 8]
    for scale in (1.0, 2.0):
        s = np.minimum(1 - 1e-12, scale / (1 + np.exp(-logits)))
        expected = law(np.log(s / (1 - s)), [True] * 4, True)
        if scale == 2.0:  # the second coin always says so
            assert s[1] > 0.99
        found = np.bincount(chosen[beta == scale], minlength=16)
        assert_law(
            found, [expected.get(tuple(bool(k >> i & 1) for i in range(4)), 0) for k in range(16)]
        )


def test_limits():
    """Large logits commit all, small ones the largest alone, and steep ones in the confidence are a threshold."""
    board = Board(7, 6, seed=4)
    seen, rows = board.look()
    choose = lambda head, params, **given: np.asarray(
        unmask.learned(head).choose(params, seen, None, knobs(**given))[0]
    )
    head, up = table(np.full(7, 40.0))
    np.testing.assert_array_equal(choose(head, up), board.allowed)
    ranks = np.array([3.0, 1, 4, 1, 5, 9, 2])
    for given in (dict(beta=0.0), dict(temperature=0.0)):
        lone = choose(*table(ranks - 40), **given)
        for b, row in enumerate(rows):
            assert places_of(lone[b]) == sorted(row.allowed, key=lambda i: -ranks[i])[:1]
    steep = PositionHead(lambda limit, seen: (seen.confidence - limit) * 1e7)
    found = choose(steep, jnp.float32(0.45))
    for b, row in enumerate(rows):
        expected = twins.threshold("max_prob")(row, threshold=0.45) if row.allowed else []
        assert places_of(found[b]) == sorted(set(expected)), b
    even = chances(jnp.array([[0.0, 1.0, -1.0]]), jnp.zeros(1), jnp.ones(1))
    np.testing.assert_allclose(even, [[0.5, 1.0, 0.0]])


def test_a_head_looks_at_its_group_alone():
    """What stands where nothing is there changes nothing, nor does where in its window a group lies."""
    head, params = build_heads("unmasking", UnmaskingConfig(width=16, hidden=16, heads=2), seed=2)
    params = jax.tree.map(
        lambda x: x + 0.3 * jax.random.normal(jax.random.key(x.size), x.shape), params
    )
    seen = sureness(plain(2, 8, [5, 3], 1, 8))
    sure = jnp.asarray(np.random.default_rng(1).random((2, 8)), jnp.float32)
    there = jnp.arange(8) < 6
    seen = seen._replace(confidence=sure, there=jnp.broadcast_to(there, (2, 8)))
    ask = jax.jit(head)
    found = ask(params, seen)
    assert found.shape == (2, 8) and float(jnp.ptp(found[0, :6])) > 1e-2
    hidden = seen._replace(confidence=jnp.where(there, sure, 0.7), masked=seen.masked & there)
    np.testing.assert_allclose(ask(params, hidden)[:, :6], found[:, :6], rtol=1e-5, atol=1e-6)
    moved = jax.tree.map(lambda x: jnp.roll(x, 2, axis=1) if x.ndim == 2 else x, hidden)
    np.testing.assert_allclose(ask(params, moved)[:, 2:], found[:, :6], rtol=1e-5, atol=1e-6)
    late = ask(params, seen._replace(time=seen.time / 3))
    assert float(jnp.abs(late - found)[:, :6].max()) > 1e-3


def test_a_law_without_numbers_spoils_no_other_position():
    board = Board(7, 6, seed=4)
    seen, _ = board.look()
    assert bool(jnp.isnan(seen.own.top).any())
    assert bool(jnp.isfinite(sureness(seen).confidence).all())


def test_bad_settings():
    head, _ = table(np.zeros(3))
    with pytest.raises(ValueError, match="reads 32 positions at once"):
        unmask.learned(build_heads("finality", FinalityConfig(), abstract=True)[0])
    with pytest.raises(ValueError, match="beta must be at least 0, got -1"):
        unmask.learned(head, beta=-1.0)
    with pytest.raises(ValueError, match="divisible by 4 and by twice the 3 heads, got 32"):
        UnmaskingConfig(heads=3)
    one, two = unmask.learned(head), unmask.learned(head, beta=2.0)
    assert one == two and one != dataclasses.replace(one, name="other")
