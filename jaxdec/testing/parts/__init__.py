"""Checks of single parts: what a warp, a cache, a model, a verifier, a growth rule or a policy promises by itself.

Each compares the part with its definition: loops in Python and float64, or an enumeration of everything that can
happen. They need no decoder, raise `AssertionError`, and say where the first difference is.
"""

from jaxdec.testing.parts.bans import check_bans, check_bans_on_canvases
from jaxdec.testing.parts.cache import check_cache
from jaxdec.testing.parts.canvas import (
    check_group_state,
    check_masks,
    check_noise_of_steps,
    check_reductions,
    check_refresh,
    check_refresh_sets,
    check_remasked,
    check_schedule,
    check_schedules,
)
from jaxdec.testing.parts.controls import (
    check_adaptive,
    check_drafts,
    check_perfect_drafts,
    perfect_target,
)
from jaxdec.testing.parts.growth import check_growth
from jaxdec.testing.parts.hypotheses import check_hypotheses
from jaxdec.testing.parts.infilling import check_infill, check_lattice, check_perfect_infill
from jaxdec.testing.parts.models import check_any_subset_model, check_next_token, check_reach
from jaxdec.testing.parts.noise import check_noise
from jaxdec.testing.parts.policies import (
    check_ancestral,
    check_fuse,
    check_policy,
    check_remask,
    check_stop,
)
from jaxdec.testing.parts.shift import check_shifted
from jaxdec.testing.parts.verifiers import check_typical_acceptance, check_verifier
from jaxdec.testing.parts.visibility import check_orders, check_visibility
from jaxdec.testing.parts.warp import check_history, check_warp, warp_twin

__all__ = [
    "check_adaptive",
    "check_ancestral",
    "check_any_subset_model",
    "check_bans",
    "check_bans_on_canvases",
    "check_cache",
    "check_drafts",
    "check_fuse",
    "check_group_state",
    "check_growth",
    "check_history",
    "check_hypotheses",
    "check_infill",
    "check_lattice",
    "check_masks",
    "check_next_token",
    "check_noise",
    "check_noise_of_steps",
    "check_orders",
    "check_perfect_drafts",
    "check_perfect_infill",
    "check_policy",
    "check_reach",
    "check_reductions",
    "check_refresh",
    "check_refresh_sets",
    "check_remask",
    "check_remasked",
    "check_schedule",
    "check_schedules",
    "check_shifted",
    "check_stop",
    "check_typical_acceptance",
    "check_verifier",
    "check_visibility",
    "check_warp",
    "perfect_target",
    "warp_twin",
]
