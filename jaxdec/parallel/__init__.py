"""Placements over devices: which arrays lie where, and the map that a loop runs in."""

from jaxdec.parallel.hosts import gather, own_rows
from jaxdec.parallel.placement import Placement, SplitCaches, over_caches, placement, put
from jaxdec.parallel.prompts import read_shares
from jaxdec.parallel.rules import AXES, CACHES, DATA, MODEL, NETWORKS, SEQUENCE, Rule

__all__ = [
    "AXES",
    "CACHES",
    "DATA",
    "MODEL",
    "NETWORKS",
    "SEQUENCE",
    "Placement",
    "Rule",
    "SplitCaches",
    "gather",
    "over_caches",
    "own_rows",
    "placement",
    "put",
    "read_shares",
]
