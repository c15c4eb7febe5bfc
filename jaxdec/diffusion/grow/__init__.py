"""Rules that say how long a canvas is while it is decoded."""

from jaxdec.diffusion.grow.contract import Grow, Growth
from jaxdec.diffusion.grow.daedal import Daedal, daedal, end_confidence

__all__ = [
    "Daedal",
    "Grow",
    "Growth",
    "daedal",
    "end_confidence",
]
