"""Runs one Python program under limits that the program cannot lift; `benchmarks.sandbox` starts it as a script.

    launcher.py SECONDS MEMORY WRITTEN        limits of processor time, address space and file size (bytes)

The program is `program.py` of the working folder. The exit code is the verdict; `reason` holds the error of a program
that failed. No code but these three counts as an end, so that a program which leaves early does not pass.
"""

import os
import resource
import sys

PASSED, FAILED, MEMORY = 100, 101, 102
PROGRAM, REASON = "program.py", "reason"

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_REFUSED = (
    "socket.",
    *("ctypes.", "subprocess.", "pty.", "os.exec", "os.fork", "os.posix_spawn", "os.system"),
    *("os.kill", "signal.pthread_kill", "resource."),
    *("shutil.", "os.remove", "os.rename", "os.rmdir", "os.truncate", "os.link", "os.symlink"),
    *("os.chmod", "os.chown", "os.chflags", "os.setxattr", "os.removexattr", "os.utime"),
)
"""Audit events by prefix: connections, other processes, and files that are changed without being opened."""


def restrict(seconds: int, memory: int, written: int) -> None:
    """Sets the limits of this process, from here on and for good."""
    for kind, value in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, written),
        (resource.RLIMIT_NPROC, 0),  # does not bind root, who forks into the hook below
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (value, value))
    folder = os.path.realpath(os.getcwd()) + os.sep

    def refuse(event, arguments):
        if event.startswith(_REFUSED):
            raise PermissionError(f"{event} is not allowed")
        if event == "open" and arguments[2] & _WRITES:
            path = arguments[0]
            if isinstance(path, int) or not os.path.realpath(os.fsdecode(path)).startswith(folder):
                raise PermissionError(f"writing to {path!r} is not allowed")

    sys.addaudithook(refuse)  # there is no call that removes it


def run(source: bytes) -> int:
    """Runs a program as `__main__`; the code of its verdict."""
    error: BaseException | None = None
    try:
        exec(compile(source, PROGRAM, "exec"), {"__name__": "__main__"})
        return PASSED
    except MemoryError:
        return MEMORY
    except BaseException as raised:  # a program that calls exit() has not passed its tests
        error = raised
    try:
        reason = f"{type(error).__name__}: {error}"
    except Exception:
        reason = type(error).__name__
    with open(REASON, "w", encoding="utf-8", errors="replace") as file:
        file.write(reason[:200])
    return FAILED


if __name__ == "__main__":
    with open(PROGRAM, "rb") as held:
        content = held.read()
    restrict(*map(int, sys.argv[1:]))
    os._exit(run(content))  # at once: no exit handlers, no waiting for threads
