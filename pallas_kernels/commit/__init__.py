"""Storing tokens in a cache, in place: those of an accepted path, or each in a slot of its own."""

from pallas_kernels.commit.api import commit, write

__all__ = ["commit", "write"]
