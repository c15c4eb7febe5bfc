"""Costs of steps by rows and draft lengths."""

import json

import jax
import numpy as np
import pytest

import jaxdec
from jaxdec.measuring.costs import load_costs, save_costs, verify_costs
from jaxdec.speculative import LoadCosts
from jaxdec.testing.oracles import hash_oracle

pytestmark = pytest.mark.usefixtures("quick_compilation")

MODEL, PARAMS = hash_oracle(8, seed=1)
BOTH = {"target": PARAMS, "draft": PARAMS}
PROMPTS = np.array([[1, 2, 3], [4, 5, 0]])
SMALL = dict(rows=(1, 3), lengths=(0, 2), steps=2, repeats=2, prompt_lengths=[3, 2])


def drafting(length):
    return jaxdec.speculative(MODEL, drafter=jaxdec.drafters.model(MODEL, length=length))


@pytest.fixture(scope="module")
def costs():
    """Of a clock that moves by one whenever it is read: every loop takes one second."""
    now = iter(range(10_000))
    return verify_costs(drafting, BOTH, PROMPTS, slots=3, clock=lambda: next(now), **SMALL)


def test_costs_are_of_single_steps(costs):
    np.testing.assert_array_equal(costs.seconds, np.full((2, 2), 0.5))
    assert (costs.rows, costs.lengths, costs.slots) == ((1, 3), (0, 2), 3)


def test_the_rule_takes_what_was_measured_and_kept(costs, tmp_path):
    save_costs(costs, tmp_path / "costs.json")
    held = load_costs(tmp_path / "costs.json")
    np.testing.assert_array_equal(held.seconds, costs.seconds)
    assert jax.tree.structure(held) == jax.tree.structure(costs)
    decoder = jaxdec.adaptive(drafting, (0, 2), rule=jaxdec.lengths.by_load())
    jaxdec.prepare(decoder, {**BOTH, "load": held}, PROMPTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(kind="something else"), "it does not say that it holds jaxdec load costs"),
        (dict(seconds=[[1.0]]), r"seconds must have shape \[1, 2\], got \[1, 1\]"),
        (dict(seconds=[[1.0], [1.0, 2.0]]), "holds no costs"),
        (dict(seconds="fast"), "holds no costs"),
        (dict(rows=None), "holds no costs: TypeError"),
        (dict(lengths=["0", "2"]), "lengths must be ascending integers"),
        (dict(slots="3"), "holds no costs"),
    ],
)
def test_a_file_of_something_else(change, message, tmp_path):
    path = tmp_path / "costs.json"
    save_costs(LoadCosts.of([[1.0, 2.0]], (1,), (0, 2)), path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        load_costs(path)
    path.write_text(path.read_text()[:-9])
    with pytest.raises(ValueError, match="holds no costs"):
        load_costs(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(steps=0), "steps must be at least 1, got 0"),
        (dict(repeats=0), "repeats must be at least 1, got 0"),
        (dict(rows=(3, 1)), r"rows must be ascending integers of at least 1, got \[3, 1\]"),
        (dict(rows=(1, 8), slots=4), "8 rows cannot run in 4 slots"),
        (dict(eos=(0,)), "eos is set by the measurement"),
        (dict(prompts=np.array([1, 2])), r"prompts must have shape \[N, P\], got \[2\]"),
    ],
)
def test_impossible_measurements(options, message):
    options = {"prompts": PROMPTS, **SMALL, **options}
    with pytest.raises(ValueError, match=message):
        verify_costs(drafting, BOTH, **options)
