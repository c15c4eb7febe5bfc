"""Two processes with one mesh over the devices of both give, each, the tokens of one device."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec import parallel

ROOT = Path(__file__).parents[2]
SECONDS = 600
CASES = (
    *(f"{name}; 8 rows" for name in ("autoregressive", "a draft model", "a canvas")),
    "autoregressive; 5 rows",
    "heads in a host",
    "heads across hosts",
    "continued",
    "a mesh without this process",
)


@pytest.fixture(scope="module")
def reports():
    """What differs in each case, as each process has it; see `hosts_cases.py`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.parallel.hosts_cases"]
    started = [
        subprocess.Popen(
            [*command, str(process), str(port)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(2)
    ]
    try:
        ended = [process.communicate(timeout=SECONDS) for process in started]
    finally:
        for process in started:
            process.kill()  # one whose partner failed waits for it
    for process, (_, errors) in zip(started, ended, strict=True):
        assert process.returncode == 0, errors[-4000:]
    return [json.loads(next(x for x in out.splitlines() if x[:1] == "{")) for out, _ in ended]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_case(reports, case):
    assert [report[case] for report in reports] == [[], []]


@pytest.mark.slow
def test_every_case_is_checked(reports):
    for report in reports:
        assert report.pop("devices") == [8, 4]
        assert sorted(report) == sorted(CASES)


def test_results_of_one_process():
    result = {"tokens": jnp.arange(6).reshape(3, 2), "codes": jnp.asarray([1, 0, 2])}
    whole = parallel.gather(result)
    rows, own = parallel.own_rows(result)
    assert rows.tolist() == [0, 1, 2]
    for found in (whole, own):
        assert isinstance(found["tokens"], np.ndarray)
        np.testing.assert_array_equal(found["tokens"], result["tokens"])
        np.testing.assert_array_equal(found["codes"], [1, 0, 2])
    with pytest.raises(ValueError, match=r"the same rows, got \[0, 1\] beside \[0, 1, 2\]"):
        parallel.own_rows([result["codes"], jnp.zeros(2)])
    with pytest.raises(ValueError, match="at least one array, got none"):
        parallel.own_rows({})
