"""Fusions: how the logits of a step are changed by those of earlier steps, or of other samples."""

from jaxdec.diffusion.fuse.contract import Fuse, Standing
from jaxdec.diffusion.fuse.credit import Credit, credit
from jaxdec.diffusion.fuse.orthogonal_repulsion import OrthogonalRepulsion, orthogonal_repulsion

__all__ = [
    "Credit",
    "Fuse",
    "OrthogonalRepulsion",
    "Standing",
    "credit",
    "orthogonal_repulsion",
]
