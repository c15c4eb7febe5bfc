"""Rules that say how long a canvas is while it is decoded."""

from jaxdec.diffusion.grow.contract import Grow, Growth
from jaxdec.diffusion.grow.daedal import Daedal, daedal, end_confidence
from jaxdec.diffusion.grow.end_of_text import EndOfText, end_of_text

__all__ = [
    "Daedal",
    "EndOfText",
    "Grow",
    "Growth",
    "daedal",
    "end_confidence",
    "end_of_text",
]
