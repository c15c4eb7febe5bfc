"""Schedules: in which order the positions of a canvas are decoded, as an ordered partition into groups."""

from jaxdec.diffusion.schedules.blocks import Blocks, blocks
from jaxdec.diffusion.schedules.cells import cells
from jaxdec.diffusion.schedules.coarse_to_fine import coarse_to_fine
from jaxdec.diffusion.schedules.contract import Schedule
from jaxdec.diffusion.schedules.delay import delay
from jaxdec.diffusion.schedules.depth import depth
from jaxdec.diffusion.schedules.diagonals import diagonals
from jaxdec.diffusion.schedules.partition import Partition, partition
from jaxdec.diffusion.schedules.raster import raster
from jaxdec.diffusion.schedules.scales import scales
from jaxdec.diffusion.schedules.semantic_blocks import SemanticBlocks, semantic_blocks
from jaxdec.diffusion.schedules.spans import BlockCausal, Full, Near, SpanRule, Until
from jaxdec.diffusion.schedules.subsample import subsample
from jaxdec.diffusion.schedules.whole import Whole, whole

__all__ = [
    "BlockCausal",
    "Blocks",
    "Full",
    "Near",
    "Partition",
    "Schedule",
    "SemanticBlocks",
    "SpanRule",
    "Until",
    "Whole",
    "blocks",
    "cells",
    "coarse_to_fine",
    "delay",
    "depth",
    "diagonals",
    "partition",
    "raster",
    "scales",
    "semantic_blocks",
    "subsample",
    "whole",
]
