"""Verifiers: which drafts are kept. Each is a law and a sampler of that law; exact ones are proved so."""

from jaxdec.speculative.verifiers.accepting import AcceptingVerifier
from jaxdec.speculative.verifiers.block_verification import (
    BlockVerification,
    block_law,
    last_success,
)
from jaxdec.speculative.verifiers.grouped import ClusterRatio, GroupRatio, cluster_law, group_law
from jaxdec.speculative.verifiers.judge import Judge, judge_law, linear_judge
from jaxdec.speculative.verifiers.k_seq import KSeq, kseq_law
from jaxdec.speculative.verifiers.law import (
    RatioVerifier,
    TreeLaw,
    at_parents,
    at_tokens,
    column,
    normalised,
    randomness,
    residual,
)
from jaxdec.speculative.verifiers.mixed_target import MixedTarget, mixed_law
from jaxdec.speculative.verifiers.near_greedy import NearGreedy
from jaxdec.speculative.verifiers.near_tokens import NearTokens, near_law, nearest
from jaxdec.speculative.verifiers.optimal_acceptance import optimal_acceptance, optimal_bound
from jaxdec.speculative.verifiers.paths import furthest, lineage_path, taken, walked_verdict
from jaxdec.speculative.verifiers.recursive_rejection import RecursiveRejection, recursive_law
from jaxdec.speculative.verifiers.reflective import Reflective
from jaxdec.speculative.verifiers.shared_noise_walk import SharedNoiseWalk
from jaxdec.speculative.verifiers.token_ratio import TokenRatio, first_failure, token_law
from jaxdec.speculative.verifiers.typical_acceptance import TypicalAcceptance

__all__ = [
    "AcceptingVerifier",
    "BlockVerification",
    "ClusterRatio",
    "GroupRatio",
    "Judge",
    "KSeq",
    "MixedTarget",
    "NearGreedy",
    "NearTokens",
    "RatioVerifier",
    "RecursiveRejection",
    "Reflective",
    "SharedNoiseWalk",
    "TokenRatio",
    "TreeLaw",
    "TypicalAcceptance",
    "at_parents",
    "at_tokens",
    "block_law",
    "cluster_law",
    "column",
    "first_failure",
    "furthest",
    "group_law",
    "judge_law",
    "kseq_law",
    "last_success",
    "lineage_path",
    "linear_judge",
    "mixed_law",
    "near_law",
    "nearest",
    "normalised",
    "optimal_acceptance",
    "optimal_bound",
    "randomness",
    "recursive_law",
    "residual",
    "taken",
    "token_law",
    "walked_verdict",
]
