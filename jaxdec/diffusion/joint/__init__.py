"""Joint rules: laws that tell the tokens of one forward of each other."""

from jaxdec.diffusion.joint.adjust import Adjust, adjust
from jaxdec.diffusion.joint.contract import Joint, Revealed

__all__ = ["Adjust", "Joint", "Revealed", "adjust"]
