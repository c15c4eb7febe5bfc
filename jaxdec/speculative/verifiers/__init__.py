"""Verifiers: which drafts are kept. Each is a law that is proved exact and a sampler of that law."""

from jaxdec.speculative.verifiers.block_verification import (
    BlockVerification,
    block_law,
    last_success,
)
from jaxdec.speculative.verifiers.k_seq import KSeq, kseq_law
from jaxdec.speculative.verifiers.law import (
    RatioVerifier,
    TreeLaw,
    at_tokens,
    normalised,
    randomness,
    residual,
)
from jaxdec.speculative.verifiers.optimal_acceptance import optimal_acceptance
from jaxdec.speculative.verifiers.paths import furthest, lineage_path, taken, walked_verdict
from jaxdec.speculative.verifiers.recursive_rejection import RecursiveRejection, recursive_law
from jaxdec.speculative.verifiers.shared_noise_walk import SharedNoiseWalk
from jaxdec.speculative.verifiers.token_ratio import TokenRatio, first_failure, token_law
from jaxdec.speculative.verifiers.typical_acceptance import TypicalAcceptance

__all__ = [
    "BlockVerification",
    "KSeq",
    "RatioVerifier",
    "RecursiveRejection",
    "SharedNoiseWalk",
    "TokenRatio",
    "TreeLaw",
    "TypicalAcceptance",
    "at_tokens",
    "block_law",
    "first_failure",
    "furthest",
    "kseq_law",
    "last_success",
    "lineage_path",
    "normalised",
    "optimal_acceptance",
    "randomness",
    "recursive_law",
    "residual",
    "taken",
    "token_law",
    "walked_verdict",
]
