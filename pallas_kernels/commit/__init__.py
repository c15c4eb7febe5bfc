"""Storing tokens in a cache, in place: those of an accepted path, or each in a slot of its own."""

from pallas_kernels.commit.api import commit, write
from pallas_kernels.commit.reference import write_slots, write_windows

__all__ = ["commit", "write", "write_slots", "write_windows"]
