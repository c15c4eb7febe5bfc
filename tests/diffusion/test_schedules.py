"""Schedules: the group of every position by its formula, partitions, and prompts of any length."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec.diffusion import schedules


def asking(budget):
    """A request, as far as a schedule looks at it."""
    return types.SimpleNamespace(
        settings=types.SimpleNamespace(max_new_tokens=np.array([1, budget]))
    )


PARTITIONS = {
    "raster": (schedules.raster(3, 4), lambda: [4 * h + w for h in range(3) for w in range(4)], 12),
    "diagonals": (
        schedules.diagonals(3, 4),
        lambda: [h + w for h in range(3) for w in range(4)],
        3 + 4 - 1,
    ),
    "diagonals, slope 2": (
        schedules.diagonals(3, 4, 2),
        lambda: [2 * h + w for h in range(3) for w in range(4)],
        2 * (3 - 1) + 4,
    ),
    "diagonals of one column": (schedules.diagonals(4, 1, 3), lambda: [0, 1, 2, 3], 4),
    "cells": (
        schedules.cells(4, 6, 2),
        lambda: [h // 2 * 3 + w // 2 for h in range(4) for w in range(6)],
        4 * 6 // 2**2,
    ),
    "cells of one": (schedules.cells(2, 3, 1), lambda: list(range(6)), 6),
    "subsample": (
        schedules.subsample(4, 6, 2),
        lambda: [h % 2 * 2 + w % 2 for h in range(4) for w in range(6)],
        4,
    ),
    "subsample, uneven": (
        schedules.subsample(3, 5, 3),
        lambda: [h % 3 * 3 + w % 3 for h in range(3) for w in range(5)],
        9,
    ),
    "scales": (
        schedules.scales([1, 2, 3]),
        lambda: [s for s, side in enumerate([1, 2, 3]) for _ in range(side * side)],
        3,
    ),
    "coarse_to_fine": (schedules.coarse_to_fine(4), lambda: [0, 1, 2, 3, 4, 4, 4, 4], 5),
    "depth": (schedules.depth(3, 4), lambda: [q for _ in range(3) for q in range(4)], 4),
    "delay": (
        schedules.delay(5, 3),
        lambda: [t + q for t in range(5) for q in range(3)],
        5 + 3 - 1,
    ),
    "partition": (schedules.partition([2, 0, 1, 0]), lambda: [2, 0, 1, 0], 3),
}


@pytest.mark.parametrize("name", PARTITIONS)
def test_the_formula(name):
    schedule, formula, number = PARTITIONS[name]
    expected = formula()
    assert set(expected) == set(range(number))  # a partition: groups 0, ..., G - 1, all used
    groups, units = schedule.assign(None, jnp.asarray([0]), len(expected))
    assert groups.dtype == jnp.int32
    assert groups[0].tolist() == expected
    assert units[0].tolist() == expected
    most = max(expected.count(group) for group in range(number))
    assert schedule.largest(len(expected)) == (most, most)
    schedule.check(asking(len(expected)), None)
    with pytest.raises(ValueError, match=f"has {len(expected)} positions, a row asks for 99"):
        schedule.check(asking(99), None)


def test_slope_two_decodes_the_upper_right_neighbour_before():
    group = np.reshape(PARTITIONS["diagonals, slope 2"][0].table, (3, 4))
    assert (group[:-1, 1:] < group[1:, :-1]).all()
    level = np.reshape(PARTITIONS["diagonals"][0].table, (3, 4))
    assert (level[:-1, 1:] == level[1:, :-1]).all()


PROMPTS = [0, 1, 3, 4, 5, 9]
LENGTH = 14


@pytest.mark.parametrize("name", ["raster", "depth", "partition"])
def test_a_partition_begins_at_the_end_of_each_prompt(name):
    schedule, formula, _ = PARTITIONS[name]
    expected = formula()
    groups, units = schedule.assign(None, jnp.asarray(PROMPTS), LENGTH)
    for prompt, row in zip(PROMPTS, groups.tolist(), strict=True):
        there = min(len(expected), LENGTH - prompt)
        assert row[:prompt] == [-1] * prompt
        assert row[prompt : prompt + there] == expected[:there]
    np.testing.assert_array_equal(groups, units)


def test_whole_is_one_group():
    groups, units = schedules.whole().assign(None, jnp.asarray(PROMPTS), LENGTH)
    for prompt, row in zip(PROMPTS, groups.tolist(), strict=True):
        assert row == [-1] * prompt + [0] * (LENGTH - prompt)
    np.testing.assert_array_equal(groups, units)
    assert schedules.whole().largest(11) == (11, 11)
    schedules.whole().check(asking(10**6), None)


@pytest.mark.parametrize(
    ("size", "within"), [(1, None), (4, None), (2, 4), (3, 3), (1, 5), (99, None)]
)
def test_blocks_from_the_end_of_the_prompt(size, within):
    schedule = schedules.blocks(size, within=within)
    groups, units = schedule.assign(None, jnp.asarray(PROMPTS), LENGTH)
    for b, prompt in enumerate(PROMPTS):
        for place in range(LENGTH):
            behind = place - prompt
            assert groups[b, place] == (behind // size if behind >= 0 else -1)
            assert units[b, place] == (behind // (within or size) if behind >= 0 else -1)
    assert schedule.largest(LENGTH) == (size, within or size)


@pytest.mark.parametrize(("size", "within"), [(1, None), (4, None), (2, 4), (2, 6)])
def test_blocks_from_the_start(size, within):
    schedule = schedules.blocks(size, within=within, from_start=True)
    groups, units = schedule.assign(None, jnp.asarray(PROMPTS), LENGTH)
    for b in range(len(PROMPTS)):
        assert groups[b].tolist() == [place // size for place in range(LENGTH)]
        assert units[b].tolist() == [place // (within or size) for place in range(LENGTH)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.blocks(0), "at least 1 position, got 0"),
        (
            lambda: schedules.blocks(4, within=6),
            "sub-blocks of 4 positions do not divide blocks of 6",
        ),
        (
            lambda: schedules.blocks(4, within=2),
            "sub-blocks of 4 positions do not divide blocks of 2",
        ),
        (lambda: schedules.partition([]), r"integers \[N\], got .* \[0\]"),
        (lambda: schedules.partition([[0, 1]]), r"integers \[N\], got int64 \[1, 2\]"),
        (lambda: schedules.partition([0.0, 1.0]), r"got float64 \[2\]"),
        (lambda: schedules.partition([0, 2]), r"all used; found 0, no \[1\]"),
        (lambda: schedules.partition([1, 2]), r"all used; found 1, no \[0\]"),
        (lambda: schedules.partition([-1, 0]), "all used; found -1"),
        (lambda: schedules.raster(0, 3), r"at least 1, got \(0, 3\)"),
        (lambda: schedules.diagonals(3, -1), r"at least 1, got \(3, -1\)"),
        (lambda: schedules.diagonals(3, 3, 0), "slope must be at least 1, got 0"),
        (lambda: schedules.cells(4, 6, 4), "cells of 4 do not divide 4 by 6"),
        (lambda: schedules.cells(4, 6, 0), "cells of 0 do not divide"),
        (lambda: schedules.cells(4, 6, -2), "cells of -2 do not divide"),
        (lambda: schedules.subsample(2, 6, 3), "a stride of 3 does not fit 2 by 6"),
        (lambda: schedules.subsample(2, 6, 0), "a stride of 0 does not fit"),
        (lambda: schedules.scales([]), r"at least 1, got \[\]"),
        (lambda: schedules.scales([1, 0]), r"at least 1, got \[1, 0\]"),
        (lambda: schedules.coarse_to_fine(0), r"at least 1, got \(0,\)"),
        (lambda: schedules.coarse_to_fine(-2), r"at least 1, got \(-2,\)"),
        (lambda: schedules.depth(3, 0), r"at least 1, got \(3, 0\)"),
        (lambda: schedules.delay(0, 3), r"at least 1, got \(0, 3\)"),
    ],
)
def test_bad_sizes(make, message):
    with pytest.raises(ValueError, match=message):
        make()
