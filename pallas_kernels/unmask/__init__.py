"""Draws a token for every row of logits and says how sure the model is, in one pass over the vocabulary."""

from pallas_kernels.unmask.api import unmask
from pallas_kernels.unmask.reference import statistics
from pallas_kernels.unmask.types import Readout, Statistics, Unmasked

__all__ = ["Readout", "Statistics", "Unmasked", "statistics", "unmask"]
