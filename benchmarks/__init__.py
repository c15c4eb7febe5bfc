"""Benchmarks: cases, the timing that they share, and the report that is generated from their results."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""Of the source tree."""
