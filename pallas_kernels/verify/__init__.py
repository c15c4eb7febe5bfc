"""Verification of draft trees from the target's logits: which path is kept, and the token after it."""

from pallas_kernels.verify.api import Walked, ratio_walk, walk

__all__ = ["Walked", "ratio_walk", "walk"]
