"""What belongs to a process of its own: its streams, Ctrl-C, and compiled programs that the next process finds."""

import io
import os
import signal
import sys
import threading
from pathlib import Path

SHOW_CURSOR = b"\x1b[?25h"


def open_streams() -> None:
    """Text is UTF-8 whatever the locale says, as the models' bytes are; a stream that is closed swallows it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() != "utf-8":
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")


def hear_interrupts() -> None:
    """Ends the process with 130 at Ctrl-C, whatever it does.

    Python raises `KeyboardInterrupt` between two of its own instructions: not while XLA compiles or runs, sometimes
    inside of a callback that drops it; and where it comes through, a process that ends while XLA compiles was seen to
    end in a segmentation fault. So a thread waits for the signal, and leaves without tidying up: all files are written
    whole or not at all.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        return
    # Threads inherit the mask, those of XLA too: only the thread that waits gets the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    def wait() -> None:
        signal.sigwait({signal.SIGINT})
        for descriptor in (1, 2):
            if os.isatty(descriptor):
                os.write(descriptor, SHOW_CURSOR)  # which a progress bar hides
        os._exit(130)

    threading.Thread(target=wait, name="interrupts", daemon=True).start()


def keep_programs() -> None:
    """Lets JAX keep compiled programs in the user's cache folder, unless its own environment variables say otherwise.

    `JAX_COMPILATION_CACHE_DIR` names another folder; `JAX_ENABLE_COMPILATION_CACHE=false` keeps nothing.
    """
    folder = program_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # no home to write to: programs are compiled each time
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
    # By default JAX keeps what took a second or more; here many small programs make up the wait.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")


def program_folder() -> Path:
    """Where compiled programs are kept: below `XDG_CACHE_HOME`, or in `~/.cache`."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "jaxdec" / "programs"
