"""A sandbox for generated Python programs: a process of its own with limits, in a folder that is thrown away.

It keeps accidents of generated code from doing harm: endless loops, memory, floods of output, connections, processes,
changes to files outside of the folder. It is no defence against a program that was written to break out of it.
"""

import dataclasses
import enum
import functools
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import launcher


class Verdict(enum.StrEnum):
    """How a program ended."""

    PASSED = "passed"
    """It ran to its end."""
    FAILED = "failed"
    """It raised, left early or was ended by a signal."""
    TIMEOUT = "timeout"
    """It was killed at its limit of time."""
    MEMORY = "memory"
    """It asked for more memory than its limit."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a program may use.

    Attributes:
      seconds: on the clock, the start of the interpreter included.
      memory: bytes of address space.
      written: bytes of each file.
    """

    seconds: float = 3.0
    memory: int = 256 << 20
    written: int = 1 << 20

    def __post_init__(self):
        for name, least in (("seconds", 0.1), ("memory", 64 << 20), ("written", 1024)):
            if (value := getattr(self, name)) < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a program.

    Attributes:
      verdict: how it ended.
      reason: one short line, empty if it passed.
    """

    verdict: Verdict
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether the program ran to its end."""
        return self.verdict is Verdict.PASSED


@functools.cache
def _namespace() -> tuple[str, ...]:
    """The command that puts a process into an empty network namespace; empty where there is none or it is forbidden."""
    unshare = shutil.which("unshare")
    for options in (("-r", "-n"), ("-n",)) if unshare else ():
        command = (unshare, *options)
        if subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    return ()


def network() -> str:
    """What keeps programs off the network on this machine, besides the launcher, which refuses sockets everywhere."""
    return "empty namespace" if _namespace() else "no sockets"


def run(program: str | bytes, limits: Limits | None = None) -> Outcome:
    """Runs a program as `__main__`, with an empty environment and no input; its output is dropped.

    Args:
      program: Python source.
      limits: the defaults of `Limits` if not given.
    """
    limits = limits or Limits()
    source = program.encode() if isinstance(program, str) else program
    # Processor time is the second line: a program that waits uses none, and one that starts late is not cut short.
    numbers = (math.ceil(limits.seconds) + 1, limits.memory, limits.written)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        (Path(folder) / launcher.PROGRAM).write_bytes(source)
        # -I leaves out the environment and the folder, -S what is installed: an editable install would show the caller.
        process = subprocess.Popen(
            [*_namespace(), sys.executable, "-ISB", launcher.__file__, *map(str, numbers)],
            cwd=folder,
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            code = process.wait(limits.seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the whole session, before its leader is gone
            process.wait()
            return Outcome(Verdict.TIMEOUT, f"ran for more than {limits.seconds:g} s")
        if code == launcher.PASSED:
            return Outcome(Verdict.PASSED)
        if code == launcher.MEMORY:
            return Outcome(Verdict.MEMORY, f"asked for more than {limits.memory >> 20} MiB")
        if code == -signal.SIGXCPU:
            return Outcome(Verdict.TIMEOUT, f"used more than {numbers[0]} s of processor time")
        return Outcome(Verdict.FAILED, _reason(code, Path(folder) / launcher.REASON))


def _reason(code: int, path: Path) -> str:
    """Why a program failed, in one line."""
    if code < 0:
        return f"ended by signal {signal.Signals(-code).name}"
    if code != launcher.FAILED:
        return f"left with exit code {code}"
    return " ".join(path.read_text("utf-8", "replace").split())
