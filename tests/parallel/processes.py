"""Scripts beside the tests, each in a process of its own: what they set must be set before JAX starts."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
needs_tpu_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="the TPU compiler (package libtpu, in the extra `test` on x86-64 Linux) is not installed",
)


def report_of(module, *arguments):
    """What a module of this package prints last, read as JSON."""
    command = [sys.executable, "-m", f"tests.parallel.{module}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])
