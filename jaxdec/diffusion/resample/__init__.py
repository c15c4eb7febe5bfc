"""Resampling: which of several proposals for a whole group a step takes its tokens from."""

from jaxdec.diffusion.resample.contract import Proposals, Resample
from jaxdec.diffusion.resample.energy import Energy, energy

__all__ = [
    "Energy",
    "Proposals",
    "Resample",
    "energy",
]
