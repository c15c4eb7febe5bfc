"""Storing the tokens of an accepted path in a cache, in place."""

from pallas_kernels.commit.api import commit

__all__ = ["commit"]
