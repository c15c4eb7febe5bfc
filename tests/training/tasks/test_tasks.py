"""Tasks: what the generators write is right by the checkers, what is changed is not, and no text raises."""

import itertools

import numpy as np
import pytest

from jaxdec.training.tasks import (
    DELIMITER,
    Agreement,
    Arithmetic,
    Copy,
    Countdown,
    Insert,
    Replace,
    Reverse,
    Shuffle,
    Sort,
    Sudoku,
    SudokuGrid,
    TaskMixture,
    WideSudokuGrid,
    canvas_size,
    is_held_out,
    problems,
)
from jaxdec.training.tasks.countdown import reachable

LINES = [Copy(), Reverse(), Sort(), Shuffle((2, 9)), Insert(), Replace()]
GRIDS = [SudokuGrid(), WideSudokuGrid()]
TASKS = [
    *(Arithmetic(), Arithmetic((1, 2), limit=99), Countdown(), Sudoku(), Sudoku(2, 3, (8, 14))),
    *(*LINES, Agreement(), *GRIDS),
]
named = pytest.mark.parametrize("task", TASKS, ids=repr)


def drawn(task, count=40):
    return problems(task, count, seed=3, held_out=False)


@named
def test_solutions_are_right_and_so_is_every_prefix(task):
    for prompt, solution in drawn(task):
        assert len(solution) <= task.longest < canvas_size(task)
        assert prompt.startswith(task.letter) and prompt.count(DELIMITER) == 1
        assert task.check(prompt, solution) and task.answer(prompt, solution) is not None
        steps = solution.splitlines(keepends=True)
        for count in range(len(steps)):
            assert task.sound(prompt, "".join(steps[:count]))
            assert not task.check(prompt, "".join(steps[:count]))


@named
def test_solutions_with_one_byte_changed_dropped_or_added_are_wrong(task):
    generator = np.random.default_rng(0)
    for prompt, solution in drawn(task, 10):
        answer = task.answer(prompt, solution)
        for place in range(len(solution)):
            digit, more = solution[place], int(generator.integers(1, 10))
            other = str((int(digit) + more) % 10 if digit.isdigit() else 7)
            for changed in (
                solution[:place] + other + solution[place + 1 :],
                solution[:place] + solution[place + 1 :],
                solution[:place] + other + solution[place:],
            ):
                # Another right solution exists for Countdown alone, with another formula.
                if task.check(prompt, changed):
                    assert isinstance(task, Countdown) and task.answer(prompt, changed) != answer
        assert not task.check(prompt, solution + solution.splitlines(keepends=True)[-1])
        assert not task.sound(prompt, solution[:-1])


@named
def test_no_text_raises(task):
    generator = np.random.default_rng(1)
    prompts, solutions = zip(*drawn(task, 5), strict=True)
    alphabet = [*"ACS0123456789+-*=,.abcdef\n", "\0", "²", "٣", "é", "\udc80"]
    noise = ["".join(generator.choice(alphabet, n)) for n in (0, 1, 5, 30, 200)]
    noise += [
        "A" + "9" * 400 + "*9\n",
        "9" * 400 + "+1=1\n",
        "S" + "." * 16 + "\n",
        "C1,1=1\n",
        "\n",
    ]
    noise += ["Kabca\n", "Iabc+a\n", "Pab\n", "Tfly dog\n", "Tfeed dog\n", "F" + "." * 16 + "\n"]
    noise += ["A99" + "*9" * 50 + "\n", "a1=7\n", "f6=6\n", "C" + "1," * 9 + "1=4\n"]
    for prompt, text in itertools.product([*prompts, *noise], [*solutions, *noise]):
        assert task.check(prompt, text) in (True, False)
        assert task.sound(prompt, text) in (True, False)
        assert isinstance(task.answer(prompt, text), str | None)
        task.key(prompt)


@named
def test_problems_are_those_of_their_seed_and_side(task):
    held, learned = problems(task, 12), problems(task, 40, held_out=False)
    assert held == problems(task, 14)[:12] != problems(task, 12, seed=1)
    assert all(is_held_out(task, p.prompt, 0.05) for p in held)
    assert not any(is_held_out(task, p.prompt, 0.05) for p in learned)


def test_problems_that_are_the_same_lie_on_one_side():
    countdown, sudoku = Countdown(), Sudoku()
    assert (
        countdown.key("C3,5,7=22\n") == countdown.key("C7,3,5=22\n") != countdown.key("C3,5,7=8\n")
    )
    assert sudoku.key("S12..............\n") == sudoku.key("S43..............\n")
    assert sudoku.key("S12..............\n") != sudoku.key("S44..............\n")


def test_arithmetic_is_from_left_to_right_without_precedence():
    task = Arithmetic()
    assert task.check("A10+2*3-36\n", "10+2=12\n12*3=36\n36-36=0\n")
    assert not task.check("A10+2*3-36\n", "2*3=6\n10+6=16\n16-36=-20\n")
    assert task.answer("A10+2*3-36\n", "12*3=036\n") == "36"
    assert not task.sound("A10+2*3-36\n", "10+2=13\n")
    for _, solution in problems(Arithmetic((4, 8), limit=99), 60):
        values = [int(step.split("=")[1]) for step in solution.split()]
        assert 4 <= len(values) <= 8 and all(0 <= value <= 99 for value in values)


def values_of(numbers):
    """All results of all formulas over all numbers that never go below zero, as sets over partitions in two."""
    if len(numbers) == 1:
        return set(numbers)
    found = set()
    for mask in range(1, 2 ** len(numbers) - 1):
        left = [x for i, x in enumerate(numbers) if mask >> i & 1]
        right = [x for i, x in enumerate(numbers) if not mask >> i & 1]
        for a, b in itertools.product(values_of(left), values_of(right)):
            found |= {a + b, a * b} | ({a - b} if a >= b else set())
    return found


def test_what_countdown_can_reach_is_what_formulas_give():
    generator = np.random.default_rng(2)
    for count in (2, 3, 4):
        numbers = sorted(int(x) for x in generator.integers(1, 9, count))
        every = values_of(numbers)
        for target in range(200):
            assert reachable(tuple(numbers), target) == (target in every)
    for prompt, _ in drawn(Countdown()):
        numbers, target = prompt[1:].split("=")
        assert int(target) in values_of([int(x) for x in numbers.split(",")])


def test_countdown_knows_when_a_right_step_leads_nowhere():
    task = Countdown()
    assert task.sound("C2,3,5=30\n", "2*3=6\n") and not task.sound("C2,3,5=30\n", "2+3=5\n")
    assert not task.sound("C2,3,5=30\n", "2*5=11\n") and not task.sound("C2,3,5=30\n", "2*4=8\n")
    assert task.check("C2,3,5=30\n", "5*3=15\n15*2=30\n")
    assert not task.check("C2,3,5=15\n", "5*3=15\n")  # a number is left
    assert task.answer("C2,3,5=30\n", "2*3=6\n6*5=30\n") == task.answer(
        "C2,3,5=30\n", "3*2=6\n5*6=30\n"
    )


def test_sudoku_has_one_solution_by_all_grids():
    """All 288 grids of four digits, found row by row; the solver finds them, and as many per puzzle as fit it."""
    rows = list(itertools.permutations(range(1, 5)))
    grids = np.array(
        [
            sum(grid, ())
            for grid in itertools.product(rows, repeat=4)
            if all(len({row[i] for row in grid}) == 4 for i in range(4))
            and all(
                len({grid[r + i][c + j] for i in (0, 1) for j in (0, 1)}) == 4
                for r in (0, 2)
                for c in (0, 2)
            )
        ]
    )
    task = Sudoku()
    assert len(grids) == 288 == len(set(task.solutions((0,) * 16)))
    for prompt, _ in drawn(task, 60):
        clues = np.array(task.read(prompt))
        assert ((grids == clues) | (clues == 0)).all(1).sum() == 1
    generator = np.random.default_rng(0)
    for grid in grids[generator.integers(0, 288, 30)]:
        clues = np.where(generator.random(16) < 0.3, grid, 0)
        count = int(((grids == clues) | (clues == 0)).all(1).sum())
        assert len(list(task.solutions(tuple(map(int, clues))))) == count


def test_sudoku_is_filled_in_any_order_once():
    task = Sudoku()
    prompt, solution = drawn(task, 1)[0]
    steps = solution.splitlines(keepends=True)
    assert task.check(prompt, "".join(steps[::-1]))
    assert task.answer(prompt, "".join(steps[::-1])) == task.answer(prompt, solution)
    assert task.answer(prompt, "".join(steps[:-1])) is None
    assert task.answer(prompt, solution + steps[0]) is None


def test_lines_are_written_as_they_are_told_to_be():
    for task, prompt, right, wrong in [
        (Copy(), "Kbqdk\n", ["bqdk"], ["bqkd", "bqd"]),
        (Reverse(), "Rbqdk\n", ["kdqb"], ["bqdk"]),
        (Sort(), "Obqdk\n", ["bdkq"], ["bqdk"]),
        (Shuffle(), "Hbqdk\n", ["bqdk", "kqbd"], ["bqdd", "bqdkk", "bqd"]),
        (Insert(), "Ibqdk+x\n", ["xbqdk", "bqxdk", "bqdkx"], ["bqdk", "bxqdxk", "xqbdk", "bqdx"]),
        (Replace(), "Pbqdk+x\n", ["xqdk", "bqdx"], ["bqdk", "xxdk", "bxqdk", "xbdk"]),
        (Agreement(), "Tfeed dog\n", ["she feeds her dog", "i feed my dog"], ["she feeds his dog"]),
        (Agreement(), "Tfeed dog\n", ["they feed their dog"], ["they feeds their dog", ""]),
    ]:
        assert all(
            task.check(prompt, one + "\n") and task.sound(prompt, one + "\n") for one in right
        )
        assert not any(task.check(prompt, one + "\n") for one in wrong)
        assert not any(task.check(prompt, one) or task.check("?" + prompt, one) for one in right)
        held = task.solutions(prompt)
        assert len(set(held)) == len(held) and {one + "\n" for one in right} <= set(held)


@pytest.mark.parametrize(
    "task", [Shuffle((3, 3)), Insert((3, 3)), Replace((3, 3)), Agreement()], ids=repr
)
def test_all_solutions_are_drawn_alike(task):
    generator = np.random.default_rng(0)
    chosen = []
    for _ in range(600):
        prompt, solution = task.draw(generator)
        chosen.append(task.solutions(prompt).index(solution))
    counts = np.bincount(chosen)
    expected = 600 / len(task.solutions(prompt))
    assert (
        len(counts) == len(task.solutions(prompt))
        and ((counts - expected) ** 2 / expected).sum() < 25
    )


@pytest.mark.parametrize("task", GRIDS, ids=repr)
def test_grids_are_solved_as_the_cells_are_one_by_one(task):
    for prompt, solution in drawn(task, 10):
        grid, solved = task.read(prompt), task.solved(prompt)
        assert solution == "".join(map(str, solved)) + "\n"
        assert all(x in (0, y) for x, y in zip(grid, solved, strict=True))
        assert task.empty[0] <= grid.count(0) <= task.empty[1]
        assert task.answer(prompt, solution[:-2] + "1\n") == solution[:-2] + "1"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Copy((1, 3)), "1"),
        (lambda: Shuffle((4, 10)), "10"),
        (lambda: Arithmetic((0, 3)), "0"),
        (lambda: Arithmetic(limit=50), "50"),
        (lambda: Countdown((1, 3)), "1"),
        (lambda: Countdown(largest=1), "1"),
        (lambda: Countdown(limit=20), "20"),
        (lambda: Sudoku(3, 3), "3"),
        (lambda: Sudoku(empty=(2, 17)), "17"),
        (lambda: problems(Sudoku(), -1), "-1"),
        (lambda: problems(Sudoku(), 1, fraction=1.0), "1.0"),
        (lambda: TaskMixture((Sudoku(), Sudoku()), (0.5, 0.5)), "different names"),
        (lambda: TaskMixture((Sudoku(),), (0.5,)), "0.5"),
        (lambda: TaskMixture((Sudoku(),), (1.0,), held_out=0.0), "0.0"),
    ],
)
def test_refusals(make, said):
    with pytest.raises(ValueError, match=said.replace(".", r"\.")):
        make()
