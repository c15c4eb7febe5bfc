"""Distances of laws: what is exact is as far as chance has it, what is not is farther."""

import dataclasses

import numpy as np

from benchmarks.cases import canvas_laws
from benchmarks.setting import QUICK, Setting
from jaxdec.catalogue import DENOISING, METHODS
from jaxdec.testing.draws import distance


def test_the_distance_of_draws():
    """Of a law of its own as the formula says, in the mean; of another one what lies between the two."""
    rng, law = np.random.default_rng(0), np.array([0.5, 0.3, 0.15, 0.05])
    counts = rng.multinomial(2000, law, 400).astype(float)
    found = [distance(row, law) for row in counts]
    assert abs(np.mean([f for f, _ in found]) / found[0][1] - 1) < 0.05
    far, _ = distance(1e6 * law[::-1], law)
    np.testing.assert_allclose(far, 0.6, atol=1e-6)


def test_rows(quick_compilation):
    scale = dataclasses.replace(QUICK, policies=2)
    rows = canvas_laws.run(Setting(None, None, None, scale, None))
    told = {(row["method"], row["setting"]): row for row in rows}
    exact = [told["left-to-right", "its own"], told["first-hitting", "its own"]]
    assert all(row["total_variation"] < 1.5 * row["of_exact_draws"] for row in exact)
    parallel = told["first-hitting", "steps 2"]
    assert parallel["total_variation"] > 2 * parallel["of_exact_draws"]


def test_every_method_has_a_figure():
    named = [name for name in DENOISING if METHODS[name].benchmark == "canvas_laws"]
    assert named and all(list(canvas_laws.points(name)) for name in named)
