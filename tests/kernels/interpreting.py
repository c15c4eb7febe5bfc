"""Kernels for TPUs on the CPU."""

import contextlib

from jax._src.pallas.mosaic.interpret import interpret_pallas_call
from jax.experimental.pallas import tpu as pltpu

CHECKED = pltpu.InterpretParams(
    out_of_bounds_reads="raise", uninitialized_memory="nan", detect_races=True
)


@contextlib.contextmanager
def checked():
    """Interprets kernels: reads out of bounds raise, unwritten memory is NaN, and a race fails the test."""
    with pltpu.force_tpu_interpret_mode(CHECKED):
        yield
    assert not interpret_pallas_call.races.races_found
