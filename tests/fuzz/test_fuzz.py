"""Inputs of every surface, the same in each run: what is bad is refused by name, what is good is as it is alone."""

import hypothesis
import pytest

from tests.fuzz import generating, infilling
from tests.fuzz.running import FIXED, counted
from tests.fuzz.surface import REFUSED, Surface, mixed
from tests.fuzz.surfaces import SURFACES

# What compiles most is left to the slow run.
SHORT = {name: held.inputs for name, held in SURFACES.items()}
SHORT["generate"] = generating.inputs(("plain",), (1,))
SHORT["infill"] = mixed((3, infilling.bad()), (1, infilling.strange))
DEAR = ("command line", "public folders", "trees")


# Bit for bit is what optimised programs promise: without, a row's likelihoods were seen to differ by a unit in the last
# place between batches, under a frequency penalty.
SLOW = {name: held.inputs for name, held in SURFACES.items()}
SLOW["generate"] = generating.inputs(("plain", "tree", "blocks"), (1,))


def hold(surface, inputs, count):
    @hypothesis.settings(max_examples=count, derandomize=True, **FIXED)
    @hypothesis.given(inputs)
    def each(given):
        surface.attempt(given)

    each()


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("name", [name for name in SURFACES if name not in DEAR])
def test_some_inputs(name):
    hold(SURFACES[name], SHORT[name], SURFACES[name].short)


@pytest.mark.slow
@pytest.mark.parametrize("name", SURFACES)
def test_many_inputs(name):
    hold(SURFACES[name], SLOW[name], SURFACES[name].slow)


def test_faults_are_counted_and_the_rest_is_tried():
    def attempt(number):
        assert number % 3, "divisible"
        return REFUSED if number % 5 else {}[number]

    numbers = hypothesis.strategies.integers(0, 10**9)
    surface = Surface("numbers", "", numbers, attempt, 1, 1, 1)
    found = counted(surface, 0, 200)
    assert found.refused + found.mismatch + found.traceback == 200 and found.taken == 0
    assert found.mismatch > 20 and found.traceback > 5 and len(found.faults) == 3
    assert counted(surface, 0, 200) == found != counted(surface, 1, 200)
