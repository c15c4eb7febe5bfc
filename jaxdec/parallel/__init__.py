"""Placements over devices: which arrays and experts lie where, and the map that a loop runs in."""

from jaxdec.parallel.expert_placement import (
    ExpertPlaces,
    expert_affinity,
    expert_order,
    local_share,
    permute_experts,
    place_experts,
)
from jaxdec.parallel.expert_prediction import TokenTable, token_table
from jaxdec.parallel.hosts import gather, own_rows
from jaxdec.parallel.memory import check_memory
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
    "ExpertPlaces",
    "Placement",
    "Rule",
    "SplitCaches",
    "TokenTable",
    "check_memory",
    "expert_affinity",
    "expert_order",
    "gather",
    "local_share",
    "over_caches",
    "own_rows",
    "permute_experts",
    "place_experts",
    "placement",
    "put",
    "read_shares",
    "together",
    "token_table",
]
