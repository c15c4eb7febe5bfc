"""Facts about the machine and the code that a result belongs to."""

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxdec

ROOT = Path(__file__).resolve().parents[2]


def cpu_model() -> str:
    """The processor's name, as far as the system tells."""
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def commit() -> str | None:
    """The checked-out commit, with `-dirty` if the code was changed since; None outside of a source tree."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != ROOT:
            return None  # installed below a checkout of something else
        changed = git("status", "--porcelain", "--", "jaxdec", "pallas_kernels", "benchmarks/*.py")
        return git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def cores() -> int:
    """Processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def facts() -> dict[str, Any]:
    """What a reader needs to judge a number by."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "devices": jax.device_count(),
        "platform": device.platform,
        "cpu": cpu_model(),
        "cores": cores(),
        "jaxdec": jaxdec.__version__,
        "jax": jax.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }


def slug() -> str:
    """The device as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", jax.devices()[0].device_kind.lower()).strip("-")
