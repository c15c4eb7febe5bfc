"""Tests run on the CPU unless `JAX_PLATFORMS` says otherwise: an installed TPU compiler looks for a TPU else."""

import gc
import os
from pathlib import Path

import jax
import pytest

if "JAX_PLATFORMS" not in os.environ:
    os.environ["JAX_PLATFORMS"] = "cpu"  # for the processes that tests start
    jax.config.update("jax_platforms", "cpu")

# Tests compile far more than they run. XLA's older code generator takes half the time; processes that tests start
# inherit it. XLA aborts at a flag that it does not know, so only versions that are known to have it get it.
if jax.__version_info__ < (0, 11):
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_use_fusion_emitters=false"
    )

MAPPINGS = Path("/proc/self/maps")
"""Each compiled kernel maps memory of its own; Linux allows a process 65,530 mappings, and LLVM aborts beyond."""


@pytest.fixture(autouse=True)
def forget_old_programs():
    """Drops compiled programs before their mappings run out."""
    yield
    if MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def quick_compilation():
    """For tiny models, which take much longer to compile than to run."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
