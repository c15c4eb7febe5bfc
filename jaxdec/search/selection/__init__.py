"""Selection: which of several whole samples of a prompt is returned, and what a budget of samples is worth.

All rules are pure functions of arrays `[..., N]` of fixed shape: they run inside `jit` and `vmap`, and a prompt's
result does not depend on its neighbours.
"""

from jaxdec.search.selection.best_of_n import best_of_n, of_steps, soft_best_of_n, win_law
from jaxdec.search.selection.block_experts import BlockExperts, block_experts
from jaxdec.search.selection.budgets import Matched, match_budgets, matched_samples
from jaxdec.search.selection.canonical import answer_ids, canonical_ids, equal_rows
from jaxdec.search.selection.consistency_errors import (
    Errors,
    perplexity_consistency_errors,
    perplexity_errors,
    self_consistency_errors,
)
from jaxdec.search.selection.deep_prune import Clusters, chosen_rows, cluster
from jaxdec.search.selection.hedged import hedged_temperatures, of_samples
from jaxdec.search.selection.mbr import Risk, mbr, token_f1
from jaxdec.search.selection.modes import choose_mode, prefix_ensemble, prompts_of_mode
from jaxdec.search.selection.pass_at_k import maj_at_k, pass_at_k
from jaxdec.search.selection.rpc import (
    Confidence,
    mean_log_probs,
    perplexity_consistency,
    reasoning_pruning,
    rpc,
)
from jaxdec.search.selection.saturation import Saturation, fit_saturation, saturation_budget
from jaxdec.search.selection.short_vote import first_to_finish, first_verified, short_vote
from jaxdec.search.selection.vote import Vote, min_max, vote
from jaxdec.search.selection.weibull import Mixture, weibull_mixture

__all__ = [
    "BlockExperts",
    "Clusters",
    "Confidence",
    "Errors",
    "Matched",
    "Mixture",
    "Risk",
    "Saturation",
    "Vote",
    "answer_ids",
    "best_of_n",
    "block_experts",
    "canonical_ids",
    "choose_mode",
    "chosen_rows",
    "cluster",
    "equal_rows",
    "first_to_finish",
    "first_verified",
    "fit_saturation",
    "hedged_temperatures",
    "maj_at_k",
    "match_budgets",
    "matched_samples",
    "mbr",
    "mean_log_probs",
    "min_max",
    "of_samples",
    "of_steps",
    "pass_at_k",
    "perplexity_consistency",
    "perplexity_consistency_errors",
    "perplexity_errors",
    "prefix_ensemble",
    "prompts_of_mode",
    "reasoning_pruning",
    "rpc",
    "saturation_budget",
    "self_consistency_errors",
    "short_vote",
    "soft_best_of_n",
    "token_f1",
    "vote",
    "weibull_mixture",
    "win_law",
]
