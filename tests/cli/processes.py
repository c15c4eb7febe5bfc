"""Command lines in processes of their own, compiled quickly rather than well."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment():
    """Variables of a process that takes the sources as they are."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }


def start(*argv, variables=None, **options):
    """Starts a command line in a process of its own."""
    words = [sys.executable, "-m", "jaxdec", *map(str, argv)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(words, env=environment() | (variables or {}), text=True, **pipes)
