"""Runs of commits and writes by every implementation, for tests."""

import contextlib
import functools

import jax
import numpy as np
import pytest
from jax.experimental import pallas as pl

from tests.kernels.interpreting import checked


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
