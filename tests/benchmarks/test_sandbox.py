"""The sandbox: what programs may do, and what becomes of those that do more."""

import os
import time

import pytest

from benchmarks import sandbox
from benchmarks.sandbox import Limits, Verdict

SHORT = Limits(seconds=1.0)


def test_a_program_that_ends_has_passed():
    program = "import sys\nassert sys.stdin.read() == ''\nassert __name__ == '__main__'\nassert 'é'"
    assert sandbox.run(program) == sandbox.Outcome(Verdict.PASSED)
    assert sandbox.run(program.encode()).passed


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("assert 1 == 2, 'no\\nsuch luck'", "AssertionError: no such luck"),
        ("raise ValueError('x' * 1000)", "ValueError: xxx"),
        ("class E(Exception):\n    def __str__(self): raise E\nraise E", "E"),
        ("def f(:", "SyntaxError: "),
        ("def f(): return f()\nf()", "RecursionError: "),
        ("input()", "EOFError: "),
        ("import sys\nsys.exit()", "SystemExit:"),
        ("import os\nos._exit(0)", "left with exit code 0"),
        ("import os\nos.abort()", "ended by signal SIGABRT"),
        ("open('big', 'wb').write(bytes(2 << 20))", "OSError: [Errno 27]"),
    ],
)
def test_failures_and_their_reasons(program, reason):
    found = sandbox.run(program)
    assert found.verdict is Verdict.FAILED and not found.passed
    assert found.reason.startswith(reason) and len(found.reason) <= 200


@pytest.mark.parametrize("program", ["while True: pass", "import time\ntime.sleep(60)"])
def test_what_does_not_end_is_killed_at_the_limit(program):
    start = time.perf_counter()
    found = sandbox.run(program, SHORT)
    assert found == sandbox.Outcome(Verdict.TIMEOUT, "ran for more than 1 s")
    assert 1 <= time.perf_counter() - start < 10


@pytest.mark.parametrize(
    "program", ["x = bytearray(1 << 40)", "x = []\nwhile True: x.append(bytearray(1 << 20))"]
)
def test_a_memory_hog_is_killed(program):
    found = sandbox.run(program, Limits(seconds=20, memory=64 << 20))
    assert found == sandbox.Outcome(Verdict.MEMORY, "asked for more than 64 MiB")


@pytest.mark.parametrize(
    "program",
    [
        "import socket\nsocket.socket()",
        "import socket\nsocket.create_connection(('127.0.0.1', 9))",
        "import _socket\n_socket.socket()",
        "import urllib.request\nurllib.request.urlopen('http://127.0.0.1')",
    ],
)
def test_sockets_are_refused(program):
    found = sandbox.run(program)
    assert found.verdict is Verdict.FAILED and "is not allowed" in found.reason


def test_the_network_namespace_is_empty():
    program = "assert open('/proc/self/net/dev').read().count(':') == 1"  # the loopback alone
    if sandbox.network() != "empty namespace":
        pytest.skip("no network namespace may be made here; sockets are refused all the same")
    assert sandbox.run(program).passed


def test_without_a_namespace_sockets_are_refused_still(monkeypatch):
    monkeypatch.setattr(sandbox, "_namespace", lambda: ())
    assert sandbox.network() == "no sockets"
    assert sandbox.run("x = 1").passed
    found = sandbox.run("import socket\nsocket.socket()")
    assert found.reason == "PermissionError: socket.__new__ is not allowed"


def test_nothing_outside_of_the_folder_is_changed(tmp_path):
    kept = tmp_path / "kept"
    kept.write_text("here")
    for program in (
        f"open({str(kept)!r}, 'w')",
        f"open({str(tmp_path / 'new')!r}, 'x')",
        f"import os\nos.open({str(kept)!r}, os.O_RDWR)",
        f"import os\nos.remove({str(kept)!r})",
        f"import os\nos.rename({str(kept)!r}, 'mine')",
        f"import shutil\nshutil.rmtree({str(tmp_path)!r})",
    ):
        found = sandbox.run(program)
        assert found.verdict is Verdict.FAILED and "is not allowed" in found.reason, program
    assert kept.read_text() == "here" and os.listdir(tmp_path) == ["kept"]


def test_each_run_has_a_folder_of_its_own():
    program = "open('notes', 'x').write('mine')\nassert open('notes').read() == 'mine'"
    assert sandbox.run(program).passed and sandbox.run(program).passed


@pytest.mark.parametrize(
    "program",
    [
        "import os\nos.fork()",
        "import os\nos.system('true')",
        "import os\nos.kill(os.getppid(), 9)",
        "import subprocess\nsubprocess.run(['true'])",
        "import multiprocessing\nmultiprocessing.Process(target=print).start()",
        "import ctypes",
        "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (9, 9))",
    ],
)
def test_no_other_processes_and_no_way_back(program):
    found = sandbox.run(program)
    assert found.verdict is Verdict.FAILED and "is not allowed" in found.reason


def test_a_flood_of_output_is_harmless():
    flood = "import sys\nfor _ in range(2000):\n    print('x' * 10000)\n    sys.stderr.write('y' * 10000)"
    assert sandbox.run(flood).passed
    endless = sandbox.run("while True: print('x' * 10000)", SHORT)
    assert endless.verdict is Verdict.TIMEOUT


def test_the_environment_is_empty(monkeypatch):
    monkeypatch.setenv("SECRET", "value")
    assert sandbox.run("import os\nassert not set(os.environ) - {'LC_CTYPE'}, os.environ").passed


def test_modules_of_the_caller_are_not_there():
    assert sandbox.run("import benchmarks").reason.startswith("ModuleNotFoundError")


@pytest.mark.parametrize("limits", [{"seconds": 0}, {"memory": 1}, {"written": 0}])
def test_limits_that_nothing_could_run_under(limits):
    with pytest.raises(ValueError, match="must be at least"):
        Limits(**limits)
