"""Fusions: how the logits of a step are changed by those of earlier steps."""

from jaxdec.diffusion.fuse.contract import Fuse
from jaxdec.diffusion.fuse.credit import Credit, credit

__all__ = [
    "Credit",
    "Fuse",
    "credit",
]
