"""Speculative decoding: a product of drafters and verifiers on one loop."""

from jaxdec.speculative import drafters, verifiers
from jaxdec.speculative.decoder import Speculative, SpeculativeState, speculative
from jaxdec.speculative.parts import Context, Drafter, Outcome, Verifier
from jaxdec.speculative.tree import DraftTree
from jaxdec.speculative.tuning import Choice, auto_draft_length

__all__ = [
    "Choice",
    "Context",
    "DraftTree",
    "Drafter",
    "Outcome",
    "Speculative",
    "SpeculativeState",
    "Verifier",
    "auto_draft_length",
    "drafters",
    "speculative",
    "verifiers",
]
