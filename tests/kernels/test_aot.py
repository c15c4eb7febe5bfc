"""Every kernel compiles at real sizes for TPU v5e and v6e, and needs little memory beside its arguments."""

import json
import subprocess
import sys

import pytest

from benchmarks import ROOT
from tests.parallel.processes import needs_tpu_compiler

pytestmark = [pytest.mark.slow, needs_tpu_compiler]


@pytest.fixture(scope="module")
def reports():
    """Of all kernels, shapes and TPUs; what `python -m benchmarks run kernels` records."""
    command = [sys.executable, "-m", "benchmarks.kernel_compilation"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("device", ["v5e", "v6e"])
@pytest.mark.parametrize("operation", ["span_attention", "unmask", "verify", "commit"])
def test_kernels_compile_for_tpus(reports, operation, device):
    mine = [
        report
        for report in reports
        if report["operation"] == operation and report["device"].startswith(device)
    ]
    assert len(mine) >= 4
    for report in mine:
        assert report["compiles"] and report["kernels"] == 1, report
        # The plain form of attention needs 1 GiB, that of unmasking as much again as the logits.
        assert report["temporary_bytes"] < 2**20 + report["argument_bytes"] / 50, report
