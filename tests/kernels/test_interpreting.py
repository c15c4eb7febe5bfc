"""The checks of interpreted kernels catch what they are there for."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from tests.kernels.interpreting import checked


def copied(early):
    """A kernel that copies by hand, and reads the copy before or after it has arrived."""

    def kernel(x, out, scratch, semaphore):
        copy = pltpu.make_async_copy(x, scratch, semaphore)
        copy.start()
        if early:
            out[...] = scratch[...]
        copy.wait()
        if not early:
            out[...] = scratch[...]

    x = jnp.ones((8, 128))
    call = pl.pallas_call(
        kernel,
        in_specs=[pl.BlockSpec(memory_space=pl.ANY)],
        out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
        scratch_shapes=[pltpu.VMEM(x.shape, x.dtype), pltpu.SemaphoreType.DMA],
    )
    return jax.block_until_ready(jax.jit(call)(x))


def test_a_read_that_does_not_wait_for_its_copy_is_a_race():
    with checked():
        assert copied(early=False).all()
    with pytest.raises(AssertionError), checked():
        copied(early=True)
