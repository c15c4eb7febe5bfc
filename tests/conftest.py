"""Tests run on the CPU unless `JAX_PLATFORMS` says otherwise: an installed TPU compiler looks for a TPU else."""

import gc
import itertools
import os
from pathlib import Path

import jax
import pytest

if "JAX_PLATFORMS" not in os.environ:
    os.environ["JAX_PLATFORMS"] = "cpu"  # for the processes that tests start
    jax.config.update("jax_platforms", "cpu")

# Tests compile far more than they run, and processes that tests start inherit what makes it quicker. One module of
# LLVM for a program takes a tenth less than 32, which serve machines of many cores; XLA's older code generator takes
# half the time. XLA aborts at a flag that it does not know, so only versions that are known to have it get that.
quick = ["--xla_cpu_parallel_codegen_split_count=1"]
if jax.__version_info__ < (0, 11):
    quick.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *quick])

SMOKE = (
    "tests/test_imports.py",
    "tests/test_public.py",
    "tests/text/test_bytes.py",
    "tests/test_visibility.py",
    "tests/conformance/test_assembly.py",
    *(
        f"tests/conformance/test_methods.py::test_it_holds[{name}]"
        for name in ("autoregressive", "draft", "draft-token", "sequoia", "lookup", "medusa")
    ),
    *(
        f"tests/conformance/test_methods.py::test_it_holds[{name}]"
        for name in ("eagle", "fused", "threshold", "freedave")
    ),
)
"""Where the tests that run under a second interpreter as well begin: a minute, and some of everything."""


DEAREST = (
    "tests/conformance/",
    "tests/diffusion/",
    "tests/kernels/",
    "tests/model/",
    "tests/cache/",
    "tests/test_x64.py",
    "tests/test_readme.py",
    "tests/test_docs.py",
)
"""Where the whole suite begins: what takes longest, lest one process is left with it at the end."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: not item.nodeid.startswith(DEAREST))
    for item in items:
        if item.nodeid.startswith(SMOKE):
            item.add_marker(pytest.mark.smoke)


def pytest_collection_finish():
    """What has been imported and collected stays: it is not looked through again."""
    gc.collect()
    gc.freeze()


def pytest_xdist_auto_num_workers(config):
    """Two processes for the whole suite; one for tests that are named, which start the sooner."""
    if config.args_source is config.ArgsSource.TESTPATHS:
        return min(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)
    config.option.dist = "no"
    return 0


def pytest_configure(config):
    """Programs are kept between runs, by the version of jax: the second run takes half of the time of the first."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        kept = str(config.cache.mkdir(f"jax-{jax.__version__}"))
        for name, value in (
            ("JAX_COMPILATION_CACHE_DIR", kept),
            ("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", 0.0),
            ("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", -1),
        ):
            os.environ[name] = str(value)  # for the processes that tests start
            jax.config.update(name.lower(), value)


# Traces are many small objects that live long: to look through them again and again takes a tenth of the time.
gc.set_threshold(50_000, 20, 20)

MAPPINGS = Path("/proc/self/maps")
"""Each compiled kernel maps memory of its own; Linux allows a process 65,530 mappings, and LLVM aborts beyond."""

finished = itertools.count(1)


@pytest.fixture(autouse=True)
def forget_old_programs():
    """Drops compiled programs before their mappings run out; to count tens of thousands takes time as well."""
    yield
    if next(finished) % 8 or not MAPPINGS.exists():
        return
    if MAPPINGS.read_bytes().count(b"\n") > 30_000:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def quick_compilation():
    """For tiny models, which take much longer to compile than to run."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
