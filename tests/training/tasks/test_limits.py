"""Limits of drawing several tokens at once: closed forms against enumeration, and against the published figures."""

import itertools
import math

import numpy as np
import pytest

from jaxdec.training.tasks import (
    Agreement,
    Arithmetic,
    Copy,
    Countdown,
    Insert,
    Replace,
    Shuffle,
    SudokuGrid,
    best_in_groups,
    in_groups,
    problems,
    total_correlation,
)
from jaxdec.training.tasks.limits import compositions

FREE = [Shuffle, Insert, Replace]


def lines(kind, count):
    names = "abcdefgh"[:count]
    return kind((2, 9)).lines(names, "z" if kind.comes else "")


@pytest.mark.parametrize("kind", FREE)
@pytest.mark.parametrize("count", [2, 3, 4])
def test_closed_forms_are_the_best_of_all_groupings(kind, count):
    for forwards in range(1, 5):
        expected = best_in_groups(lines(kind, count), forwards)
        assert kind((2, 9)).at_best(count, forwards) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("kind", "accuracies"),
    [
        (Shuffle, (0.222, 0.094, 0.038, 0.015)),
        (Insert, (0.188, 0.123, 0.082, 0.056)),
        (Replace, (0.444, 0.422, 0.410, 0.402)),
    ],
)
def test_all_at_once_for_three_to_six_names(kind, accuracies):
    for count, accuracy in zip(range(3, 7), accuracies, strict=True):
        assert kind((2, 9)).at_best(count, 1) == pytest.approx(accuracy, abs=6e-4)
        at_once = in_groups(lines(kind, count), [range(len(lines(kind, count)[0]))])
        assert kind((2, 9)).at_best(count, 1) == pytest.approx(at_once, abs=1e-12)


def test_total_correlation_in_closed_form():
    for n in range(2, 6):
        shuffled = n * math.log(n) - math.log(math.factorial(n))
        assert total_correlation(lines(Shuffle, n)) == pytest.approx(shuffled)
        assert total_correlation(lines(Replace, n)) == pytest.approx(
            (n - 1) * math.log(n / (n - 1))
        )
        assert total_correlation(lines(Copy, n)) == 0


def test_k_names_of_six_a_forward():
    for k, expected in ((1, 1), (2, 0.3125), (3, 0.1235), (6, 0.0154)):
        groups = [range(at, at + k) for at in range(0, 6, k)]
        assert in_groups(lines(Shuffle, 6), groups) == pytest.approx(expected, abs=5e-5)
    for k, expected in ((1, 1), (2, 0.734), (3, 0.604), (6, 0.402)):
        groups = [range(at, at + k) for at in range(0, 6, k)]
        assert in_groups(lines(Replace, 6), groups) == pytest.approx(expected, abs=5e-4)


def test_in_groups_is_what_drawing_gives():
    """A perfect model, drawn from: tokens of a group independently, given what stands there."""
    solutions, groups = lines(Insert, 3), [[0, 2], [1, 3]]
    generator, right = np.random.default_rng(0), 0
    for _ in range(4000):
        left, drawn = solutions, {}
        for group in groups:
            drawn |= {i: generator.choice([one[i] for one in left]) for i in group}
            left = [one for one in left if all(one[i] == x for i, x in drawn.items())]
            if not left:
                break
        right += bool(left)
    expected = in_groups(solutions, groups)
    assert abs(right / 4000 - expected) < 4 * math.sqrt(expected * (1 - expected) / 4000)


def test_more_forwards_are_never_worse_and_one_solution_costs_nothing():
    for task in (Shuffle(), Insert(), Replace(), Agreement()):
        for prompt, _ in problems(task, 3):
            found = [task.parallel_limit(prompt, forwards) for forwards in range(1, 8)]
            assert found == sorted(found) and 0 < found[0] < 0.5 and found[-1] == pytest.approx(1)
        assert task.parallel_limit("?\n", 1) is None
    for task in (Copy(), Arithmetic(), SudokuGrid()):
        assert task.parallel_limit(problems(task, 1)[0].prompt, 1) == 1
        assert task.parallel_limit("?\n", 1) is None
    assert Countdown().parallel_limit(problems(Countdown(), 1)[0].prompt, 1) is None


def test_a_first_letter_says_all_of_a_sentence():
    found = Agreement().solutions("Tfeed dog\n")
    padded = [one.ljust(30, "\0") for one in found]
    assert in_groups(padded, [[0], range(1, 30)]) == pytest.approx(1)
    columns = [*zip(*padded, strict=True)]
    at_once = sum(
        math.prod(c.count(x) / 6 for c, x in zip(columns, one, strict=True)) for one in padded
    )
    assert Agreement().parallel_limit("Tfeed dog\n", 1) == pytest.approx(at_once)


def test_compositions_are_all_ordered_sums():
    for count, parts in itertools.product(range(1, 6), range(1, 5)):
        every = itertools.chain(
            *(itertools.product(range(1, 6), repeat=n) for n in range(1, parts + 1))
        )
        assert sorted(compositions(count, parts)) == sorted(x for x in every if sum(x) == count)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: total_correlation([]), "some, different"),
        (lambda: in_groups(["ab", "a"], [[0, 1]]), "one length"),
        (lambda: in_groups(["ab", "ba"], [[0], [0, 1]]), "each of 2 positions once"),
        (lambda: best_in_groups(["ab", "ba"], 0), "got 0"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()
