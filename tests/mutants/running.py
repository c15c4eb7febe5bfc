"""Runs the checks of a family against a mutant, in a process that is forked before the packages are imported."""

import dataclasses
import json
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.mutants.mutant import ROOT, Mutant

TIMEOUT = 600.0
"""Seconds after which a mutant counts as killed: a loop that does not end is caught by whoever waits for it."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a mutant.

    Attributes:
      mutant: which; None for the control.
      family: whose checks ran.
      killed_by: the first check that failed, empty if all passed.
      message: of the failure, one line.
      seconds: of wall clock.
    """

    mutant: Mutant | None
    family: str
    killed_by: str
    message: str
    seconds: float


def _child(family: str, mutant: Mutant | None, report: Path, every_check: bool) -> None:
    """Runs the checks and writes down what failed."""
    sys.path.insert(0, str(ROOT))
    log = os.open(report.with_suffix(".log"), os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    failed: list[tuple[str, str]] = []
    name = "import"
    try:
        if mutant is not None:
            from tests.mutants.source import replace

            replace(ROOT / mutant.file, mutant.source())
        from tests.mutants.suites import checks

        for name, check in checks(family):
            start = time.perf_counter()
            try:
                check()
            except Exception as error:
                traceback.print_exc()
                failed.append((name, " ".join(f"{type(error).__name__}: {error}".split())[:300]))
                if not every_check:
                    break
            print(f"{name}: {time.perf_counter() - start:.1f} s", flush=True)
    except BaseException as error:
        traceback.print_exc()
        failed.append((name, f"{type(error).__name__}: {error}".splitlines()[0]))
    report.write_text(json.dumps(failed))


def _start(family: str, mutant: Mutant | None, report: Path, every_check: bool) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # no backend is up yet, and so no thread that a fork could harm
        process = os.fork()
    if process:
        return process
    try:
        _child(family, mutant, report, every_check)
    finally:
        os._exit(0)


def run(
    tasks: Iterable[tuple[str, Mutant | None]],
    jobs: int = 1,
    timeout: float = TIMEOUT,
    every_check: bool = False,
) -> Iterator[Outcome]:
    """Runs the checks of each family against each mutant (None for the control), `jobs` at a time.

    The packages must not have been imported in this process.
    """
    import chex  # noqa: F401  once, for all children
    import flax.nnx  # noqa: F401

    waiting, running = list(tasks)[::-1], {}
    with tempfile.TemporaryDirectory() as folder:
        number = 0
        while waiting or running:
            while waiting and len(running) < jobs:
                family, mutant = waiting.pop()
                number += 1
                report = Path(folder) / f"{number}.json"
                process = _start(family, mutant, report, every_check)
                running[process] = (family, mutant, report, time.perf_counter())
            time.sleep(0.05)
            for process, (family, mutant, report, start) in list(running.items()):
                seconds = time.perf_counter() - start
                ended, _ = os.waitpid(process, os.WNOHANG)
                if not ended and seconds < timeout:
                    continue
                if not ended:
                    os.kill(process, signal.SIGKILL)
                    os.waitpid(process, 0)
                del running[process]
                found = json.loads(report.read_text()) if report.exists() else []
                if not report.exists():
                    found = [
                        [
                            "time" if not ended else "crash",
                            "the process did not end" if not ended else "it died",
                        ]
                    ]
                if every_check and found:
                    found = [["; ".join(name for name, _ in found), found[0][1]]]
                killed_by, message = found[0] if found else ("", "")
                if os.environ.get("MUTANTS_LOG"):
                    sys.stderr.write(report.with_suffix(".log").read_text())
                yield Outcome(mutant, family, killed_by, message, seconds)
