"""Verification of draft trees from the target's logits: which path is kept, and the token after it."""

from pallas_kernels.verify.api import Walked, walk

__all__ = ["Walked", "walk"]
