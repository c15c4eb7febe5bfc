"""Unmasking policies: which positions of the active group are committed in a step.

Every policy commits at least one position a step, except `ancestral`, whose last step commits all that is left.
"""

from jaxdec.diffusion.unmask.ancestral import Ancestral, ancestral
from jaxdec.diffusion.unmask.dynamic_threshold import DynamicThreshold, dynamic_threshold
from jaxdec.diffusion.unmask.entropy_bound import EntropyBound, entropy_bound
from jaxdec.diffusion.unmask.eos_early_rejection import EosEarlyRejection, eos_early_rejection
from jaxdec.diffusion.unmask.factor import Factor, factor
from jaxdec.diffusion.unmask.first_alone import FirstAlone, first_alone
from jaxdec.diffusion.unmask.first_hitting import first_hitting
from jaxdec.diffusion.unmask.guider import Guider, guider
from jaxdec.diffusion.unmask.in_blocks import InBlocks, in_blocks
from jaxdec.diffusion.unmask.left_to_right import LeftToRight, left_to_right
from jaxdec.diffusion.unmask.leftmost import Leftmost, leftmost
from jaxdec.diffusion.unmask.quota import Quota, Spread, quota, quota_size
from jaxdec.diffusion.unmask.saber import Saber, saber
from jaxdec.diffusion.unmask.shared_lines import SharedLines, shared_lines
from jaxdec.diffusion.unmask.threshold import Threshold, threshold

__all__ = [
    "Ancestral",
    "DynamicThreshold",
    "EntropyBound",
    "EosEarlyRejection",
    "Factor",
    "FirstAlone",
    "Guider",
    "InBlocks",
    "LeftToRight",
    "Leftmost",
    "Quota",
    "Saber",
    "SharedLines",
    "Spread",
    "Threshold",
    "ancestral",
    "dynamic_threshold",
    "entropy_bound",
    "eos_early_rejection",
    "factor",
    "first_alone",
    "first_hitting",
    "guider",
    "in_blocks",
    "left_to_right",
    "leftmost",
    "quota",
    "quota_size",
    "saber",
    "shared_lines",
    "threshold",
]
