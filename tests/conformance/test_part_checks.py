"""The checks of single parts pass for jaxdec's own; what they catch is shown by `tests.mutants`."""

import pytest

from jaxdec.sampling import Warp
from jaxdec.testing import parts
from jaxdec.testing.parts import canvas

pytestmark = pytest.mark.usefixtures("quick_compilation")

CHECKS = (
    parts.check_warp,
    parts.check_history,
    parts.check_noise,
    parts.check_visibility,
    parts.check_orders,
    parts.check_cache,
    parts.check_lattice,
    parts.check_schedules,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_parts(check):
    check()


@pytest.mark.parametrize("name", canvas.SETS)
def test_refresh_rules(name):
    rule, *sets = canvas.SETS[name]
    parts.check_refresh_sets(rule, *sets)


def test_another_pipeline_is_caught():
    with pytest.raises(AssertionError):
        parts.check_warp(lambda warp, logits, history: Warp(top_k=3).log_probs(logits))


def test_noise_of_few_bits_is_caught():
    coarse = lambda keys: (parts.noise.sampling.uniform(keys) * 256).astype(int) / 256
    with pytest.raises(AssertionError, match=r"have \d+ values"):
        parts.check_noise(uniform=lambda keys: coarse(keys).astype("float32"))
