"""Refresh rules: which positions of a canvas are computed again in a step, and which are read as they were."""

from jaxdec.diffusion.refresh.block import Block, block
from jaxdec.diffusion.refresh.contract import NEVER, CanvasStatus, Refresh
from jaxdec.diffusion.refresh.dual import Dual, dual
from jaxdec.diffusion.refresh.frozen import Frozen, frozen
from jaxdec.diffusion.refresh.none import NoCache, none
from jaxdec.diffusion.refresh.prefix import Prefix, prefix
from jaxdec.diffusion.refresh.sub_block import SubBlock, sub_block
from jaxdec.diffusion.refresh.window import Window, window

__all__ = [
    "NEVER",
    "Block",
    "CanvasStatus",
    "Dual",
    "Frozen",
    "NoCache",
    "Prefix",
    "Refresh",
    "SubBlock",
    "Window",
    "block",
    "dual",
    "frozen",
    "none",
    "prefix",
    "sub_block",
    "window",
]
