import jax
import jax.numpy as jnp
import pytest

import pallas_kernels
from pallas_kernels.dispatch import dispatch

FORMS = {"reference": lambda x: x + 1, "tpu": lambda x: x + 2}


def call(x, **how):
    return int(dispatch("addition", FORMS, jnp.asarray(x), **how))


def test_the_reference_runs_where_no_kernel_fits():
    assert call(0) == 1


@pytest.mark.parametrize("reason", [None, "too large"])
def test_where_a_kernel_is_best_only_programs_for_that_platform_have_it(monkeypatch, reason):
    """As on a machine with a TPU; the platform of each program decides, and kernels that cannot serve are left out."""
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    add = lambda x: dispatch("addition", FORMS, x, unsupported=lambda name, *arrays: reason)
    lower = lambda platform: jax.jit(add).trace(0).lower(lowering_platforms=(platform,)).as_text()
    two = "stablehlo.constant dense<2>"
    assert two not in lower("cpu")
    assert (two in lower("tpu")) == (reason is None)


def test_the_call_goes_before_the_enclosing_choice():
    with pallas_kernels.use("tpu"):
        assert call(0) == 2
        assert call(0, implementation="reference") == 1
    assert call(0) == 1


def test_a_program_is_compiled_anew_under_another_choice():
    compiled = jax.jit(lambda x: dispatch("addition", FORMS, x))
    assert compiled(0) == 1
    with pallas_kernels.use("tpu"):
        assert compiled(0) == 2
    assert compiled(0) == 1


def test_impossible_choices_are_refused():
    with pytest.raises(ValueError, match="'mps'"):
        call(0, implementation="mps")
    with pytest.raises(ValueError, match="'mps'"), pallas_kernels.use("mps"):
        pass
    with pytest.raises(ValueError, match="'gpu': addition has none"):
        call(0, implementation="gpu")
    with pytest.raises(ValueError, match="'tpu': too large"):
        call(0, implementation="tpu", unsupported=lambda name, *arrays: "too large")
