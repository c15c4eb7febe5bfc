"""How many drafts a step of `adaptive` has: one rule a file."""

from jaxdec.speculative.lengths.acceptance import ByAcceptance, by_acceptance
from jaxdec.speculative.lengths.contract import Acceptance, Ladder, LengthRule
from jaxdec.speculative.lengths.costs import LoadCosts
from jaxdec.speculative.lengths.given import Given, given
from jaxdec.speculative.lengths.load import ByLoad, by_load

__all__ = [
    "Acceptance",
    "ByAcceptance",
    "ByLoad",
    "Given",
    "Ladder",
    "LengthRule",
    "LoadCosts",
    "by_acceptance",
    "by_load",
    "given",
]
