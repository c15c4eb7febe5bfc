"""Canvas policies on tasks: what is counted of them, and the area under what they reach."""

import numpy as np
import pytest

from benchmarks import charts
from benchmarks.cases import tasks
from benchmarks.solved import POINTS, area, counted, points_of
from jaxdec import text
from jaxdec.catalogue import DENOISING, METHODS, Parts
from jaxdec.testing import oracles
from jaxdec.training.filling import Filled
from jaxdec.training.tasks import Arithmetic, Copy, Problem, Shuffle

ORACLE, _ = oracles.hash_oracle(text.VOCAB_SIZE)
MODEL = oracles.canvas(ORACLE, mask_token=text.MASK)


def test_the_area_is_under_the_best_that_is_reached_at_so_much_or_more():
    assert area([]) == 0
    assert area([(1, 0.5)]) == 0.5
    assert area([(2, 1.0), (1, 0.5)]) == 2  # slower and worse: no matter
    assert area([(1, 1.0), (3, 0.5), (2, 0.4)]) == 1 + 2 * 0.5
    more = area([(1, 1.0), (3, 0.5), (4, 0.1)])
    assert more == pytest.approx(1 + 2 * 0.5 + 0.1)


def test_every_policy_has_settings_that_it_takes():
    methods = tasks.methods(Parts(MODEL))
    for method in methods:
        decoder = method.make(Parts(MODEL))
        points = points_of(decoder)
        assert points and len({point.label for point in points}) == len(points)
        for task, block in ((Shuffle(), None), (Arithmetic(), 8)):
            for point in points:
                assert set(point.knobs(task, block)) <= set(decoder.knobs)
    assert {method.name for method in methods} <= set(DENOISING)
    assert methods[0].name == tasks.REFERENCE
    of_blocks = {
        row.name for row in tasks.methods(Parts(MODEL, block=8, causal=True, refresh="block"))
    }
    left_out = {row.name for row in methods} - of_blocks
    assert left_out == {"daedal", "window-diffusion"}  # which know no causal blocks
    turned = {name: points_of(METHODS[name].make(Parts(MODEL))) for name in ("threshold", "llada")}
    assert turned["threshold"] == POINTS["threshold"]
    assert [p.knobs(Shuffle((6, 6)), None)["steps"] for p in turned["llada"]] == [8, 4, 3, 2, 1]
    assert [p.knobs(Arithmetic(), 8)["steps"] for p in turned["llada"]] == [8, 4, 3, 2, 1]


def row(method, setting, speed, exact, temperature=0.0, limit=None):
    return {
        "method": method,
        "about": "",
        "temperature": temperature,
        "setting": setting,
        "tokens_per_forward": speed,
        "exact": exact,
        "limit": limit,
    }


def test_the_best_loses_little_against_one_token_a_forward():
    rows = [
        row("llada", "1 a step", 1, 0.99),
        row("llada", "2 a step", 2, 0.985),
        row("llada", "8 a step", 8, 0.5),
        row("threshold", "0.9", 4, 0.95),
        row("llada", "1 a step", 1, 0.9, 1.0, 1.0),
        row("threshold", "0.9", 5, 0.95, 1.0, 0.96),
    ]
    found = tasks.judged(rows)
    assert [(r["method"], r["temperature"], r["best"]) for r in found] == [
        ("llada", 0.0, False),
        ("llada", 0.0, True),
        ("llada", 0.0, False),
        ("threshold", 0.0, False),
        ("llada", 1.0, True),
        ("threshold", 1.0, True),
    ]
    areas = [r["area"] for r in found]
    assert areas == pytest.approx([None, 0.99 + 0.985, None, 4 * 0.95, 0.9, 5 * 0.95])
    assert [r["lost"] for r in found] == pytest.approx([0, 0.005, 0.49, 0.04, 0, -0.05])
    assert [r["bar"] for r in found] == [None, tasks.BAR, None, None, None, None]
    assert tasks.figures(found).keys() == {"llada"}
    assert tasks.curves(found, 1.0) == {"llada": [(1, 0.9)], "threshold": [(5, 0.95)]}


def test_what_is_counted_of_canvases():
    line, free = Copy((6, 6)), Shuffle((6, 6))
    held = {
        line: [Problem("Kabcdef\n", "abcdef\n")] * 2,
        free: [Problem("Habcdef\n", "fbcdea\n")] * 2,
    }
    counts = np.array([2, 3])
    filled = {
        line: Filled([""] * 2, np.array([True, True]), counts, np.array([8, 8])),
        free: Filled([""] * 2, np.array([True, False]), counts, np.array([8, 8])),
    }
    found = counted(held, filled, 1.0)
    assert (found["problems"], found["exact"]) == (4, 0.75)
    assert found["tokens_per_forward"] == 32 / 10
    assert (found["one_solution"], found["several_solutions"]) == (1, 0.5)
    assert found["exact_error"] == pytest.approx((0.75 * 0.25 / 4) ** 0.5)
    expected = np.mean([free.at_best(6, 2), free.at_best(6, 3)])
    assert found["by_task"]["shuffle"]["limit"] == pytest.approx(expected)
    assert found["limit"] == pytest.approx((1 + expected) / 2)
    assert counted(held, filled, 0.0)["limit"] is None


@pytest.mark.slow
def test_the_chart_has_a_panel_a_policy(tmp_path):
    rows = tasks.judged(
        [row("llada", "", s, 1 / s, t, 0.9 if t else None) for s in (1, 2) for t in (0.0, 1.0)]
    )
    assert [ax.get_title() for ax in tasks.chart(rows).axes if ax.axison] == ["llada"]
    sampled = [row for row in rows if row["temperature"] == 1]
    assert len(tasks.chart(sampled).axes[0].lines) == len(tasks.chart(rows).axes[0].lines) - 1
    (path,) = charts.write([{"case": "tasks", "rows": rows}], tmp_path)
    assert path.name == "tasks.svg"
