"""Verifiers: which drafts are kept. Each is a law that is proved exact and a sampler of that law."""

from jaxdec.speculative.verifiers.ratio import (
    BlockVerification,
    ChainLaw,
    TokenRatio,
    block_law,
    first_failure,
    last_success,
    residual,
    token_law,
)
from jaxdec.speculative.verifiers.walk import SharedNoiseWalk

__all__ = [
    "BlockVerification",
    "ChainLaw",
    "SharedNoiseWalk",
    "TokenRatio",
    "block_law",
    "first_failure",
    "last_success",
    "residual",
    "token_law",
]
