"""Visible sets of training windows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdec.training import subsets
from jaxdec.training.subsets import Masking

STREAM = np.arange(3000) % 251


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.floats(0.01, 1.0), st.integers(0, 10**6))
def test_every_pattern_has_a_visible_and_a_masked_token(length, rate, seed):
    generator = np.random.default_rng(seed)
    for visible in (
        subsets.dropped(length, rate, generator),
        subsets.with_gaps(length, rate, generator),
        subsets.prefix(length, generator),
    ):
        assert visible.shape == (length,) and visible.any() and not visible.all()


def test_rates_are_kept():
    generator = np.random.default_rng(0)
    assert subsets.dropped(100, 0.3, generator).sum() == 71
    for rate in (0.05, 0.4):
        visible = subsets.with_gaps(200, rate, generator)
        assert (~visible).sum() == 200 * rate
        edges = np.diff(np.concatenate([[1], visible, [1]]).astype(int))
        assert 1 <= (edges == -1).sum() <= 3
    assert not np.diff(subsets.prefix(50, generator).astype(int)).max() > 0


def test_batches_are_a_function_of_the_seed_and_the_step():
    draw = lambda **given: subsets.draw(
        STREAM, Masking(scored=20), **{"batch": 8, "length": 64, "seed": 0, "step": 500, **given}
    )
    one, again = draw(), draw()
    for x, y in zip(one, again, strict=True):
        np.testing.assert_array_equal(x, y)
    assert (draw(step=501).visible != one.visible).any()
    assert (draw(seed=1).tokens != one.tokens).any()
    for row in range(8):
        chosen = one.scored[row][one.weights[row] > 0]
        assert len(set(chosen)) == len(chosen) == min(20, (~one.visible[row]).sum())
        assert not one.visible[row, chosen].any()


def test_rates_spread_from_the_start_over_the_warm_up():
    masking = Masking(start=0.5, rates=(0.1, 0.9), warmup=100, shares=(1.0, 0.0, 0.0))
    rates = lambda step: (
        ~subsets.draw(STREAM, masking, batch=16, length=200, seed=0, step=step).visible
    ).mean(1)
    assert np.ptp(rates(0)) < 0.01
    assert 0.3 < np.ptp(rates(50)) < 0.45
    # Stratified: one row in each sixteenth of the interval.
    strata = np.floor((np.sort(rates(400)) + 0.005 - 0.1) / 0.05).astype(int)
    assert np.ptp(rates(400)) > 0.7 and len(set(strata)) >= 14


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(rates=(0.0, 0.5)), "masking rates must lie in"),
        (dict(rates=(0.6, 0.5)), "got 0.6 and 0.5"),
        (dict(start=1.5), "got 1.5"),
        (dict(shares=(0.5, 0.5, 0.5)), "fractions that sum to 1"),
        (dict(scored=0), "scored must be at least 1, got 0"),
    ],
)
def test_impossible_masking(settings, message):
    with pytest.raises(ValueError, match=message):
        Masking(**settings)


def test_a_window_of_one_token():
    with pytest.raises(ValueError, match="a window of 1 tokens"):
        subsets.draw(STREAM, Masking(), batch=1, length=1, seed=0, step=0)
