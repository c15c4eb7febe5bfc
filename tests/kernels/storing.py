"""Runs of commits and writes by every implementation, for tests."""

import contextlib
import functools

import jax
import numpy as np
import pytest
from jax._src.pallas.mosaic.interpret import interpret_pallas_call
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

CHECKED = pltpu.InterpretParams(
    out_of_bounds_reads="raise", uninitialized_memory="nan", detect_races=True
)


@contextlib.contextmanager
def checked():
    """Interprets kernels for TPUs, with bounds and races checked."""
    with pltpu.force_tpu_interpret_mode(CHECKED):
        yield
    assert not interpret_pallas_call.races.races_found


@functools.cache
def compiled(function, implementation):
    """One program a shape; kernels are interpreted."""
    return jax.jit(functools.partial(function, implementation=implementation))


def run(function, arguments, implementation):
    """A commit or a write by one implementation, in NumPy arrays."""
    with contextlib.ExitStack() as stack:
        if implementation == "tpu":
            stack.enter_context(checked())
        elif implementation == "gpu":
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            patch.setattr(pl, "pallas_call", functools.partial(pl.pallas_call, interpret=True))
        return jax.tree.map(np.asarray, compiled(function, implementation)(*arguments))


def bits(x):
    """As whole numbers, so that NaNs are compared too."""
    return np.ascontiguousarray(x).view(f"u{x.dtype.itemsize}")
