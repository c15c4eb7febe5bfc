"""Every kernel compiles at real sizes for TPU v5e and v6e, and needs little memory beside its arguments."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None,
        reason="the TPU compiler (package libtpu, in the extra `test` on x86-64 Linux) is not installed",
    ),
]


@pytest.mark.parametrize("topology", ["v5e:2x2", "v6e:2x4"])
@pytest.mark.parametrize("operation", ["span_attention", "unmask", "verify", "commit"])
def test_kernels_compile_for_tpus(operation, topology):
    script = Path(__file__).with_name("aot.py")
    done = subprocess.run(
        [sys.executable, script, topology, operation], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-4000:]
    reports = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(reports) >= 4
    for report in reports:
        assert report["kernels"] == 1, report
        # The plain form of attention needs 1 GiB, that of unmasking as much again as the logits.
        assert report["temporaries"] < 2**20 + report["arguments"] / 50, report
