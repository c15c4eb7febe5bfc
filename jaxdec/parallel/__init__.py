"""Placements over devices: which arrays lie where, and the map that a loop runs in."""

from jaxdec.parallel.placement import Placement, SplitCaches, over_caches, placement, put
from jaxdec.parallel.prompts import read_shares
from jaxdec.parallel.roles import together
from jaxdec.parallel.rules import AXES, CACHES, DATA, MODEL, NETWORKS, ROLE, SEQUENCE, Rule

__all__ = [
    "AXES",
    "CACHES",
    "DATA",
    "MODEL",
    "NETWORKS",
    "ROLE",
    "SEQUENCE",
    "Placement",
    "Rule",
    "SplitCaches",
    "over_caches",
    "placement",
    "put",
    "read_shares",
    "together",
]
