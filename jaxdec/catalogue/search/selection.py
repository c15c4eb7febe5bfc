"""Rules that choose among whole samples, and evaluations of budgets of them: what is around decoders, not within."""

from jaxdec.catalogue.systems import System

_VOTES = "tests/search/selection/test_votes.py"
_RPC = "tests/search/selection/test_rpc.py"
_SCALING = "tests/search/selection/test_scaling.py"
_SAMPLES = "tests/search/selection/test_settings_of_samples.py"

SELECTIONS = {
    row.name: row
    for row in (
        System(
            "Self-consistency",
            "the answer that most samples give, or most weight is behind",
            "2203.11171",
            "search.selection.vote",
            _VOTES,
        ),
        System(
            "Best of n",
            "the sample with the highest score, softly or not; the exact law of what wins",
            "2110.14168",
            "search.selection.best_of_n, soft_best_of_n, win_law",
            _VOTES,
        ),
        System(
            "Minimum Bayes risk",
            "the sample that is most useful if any of the others were right, over one pool or two",
            "2211.07634, 2506.20544",
            "search.selection.mbr",
            _VOTES,
        ),
        System(
            "Short vote",
            "the majority among the first m samples to finish",
            "2505.17813, 2505.18149",
            "search.selection.short_vote",
            _VOTES,
        ),
        System(
            "DeepPrune's clusters",
            "traces that a judge expects to end alike are cut, all but one",
            "2510.08483",
            "search.selection.cluster",
            _VOTES,
        ),
        System(
            "RPC",
            "votes by the probability of unique completions, without the improbable ones",
            "2502.00511, 2510.15444",
            "search.selection.rpc",
            _RPC,
        ),
        System(
            "RPC errors",
            "the error of a confidence as estimation error and model error, exactly",
            "2502.00511, 2510.15444",
            "search.selection.perplexity_consistency_errors",
            _RPC,
        ),
        System(
            "pass@k and maj@k",
            "what k samples would have given, from more of them",
            "2107.03374",
            "search.selection.pass_at_k, maj_at_k",
            _SCALING,
        ),
        System(
            "TTSPM",
            "a saturating curve through pilot measurements, and the budget where more stops paying",
            "2505.20522",
            "search.selection.fit_saturation, saturation_budget",
            _SCALING,
        ),
        System(
            "Sequential against parallel",
            "one long search against as many direct samples as its tokens pay for",
            "2504.07052",
            "search.selection.match_budgets",
            _SCALING,
        ),
        System(
            "Hedged sampling",
            "one greedy sample beside drawn ones in one batch",
            "2506.20544",
            "generate(temperature=search.selection.hedged_temperatures(B, N))",
            _SAMPLES,
        ),
        System(
            "HEX",
            "samples of a canvas in blocks of several sizes, a majority, ties to the smallest blocks",
            "2510.05040",
            "search.selection.block_experts, diffusion.unmask.in_blocks",
            "tests/search/selection/test_block_experts.py",
        ),
        System(
            "EconProver",
            "a way to think for each problem, prefixes that share its samples, the first verified one",
            "2509.12603",
            "search.selection.choose_mode, prefix_ensemble, first_verified",
            _SCALING,
        ),
        System(
            "Bag of Tricks",
            "a checklist of what changes accuracy at inference, and which option turns it on",
            "2502.07191",
            "docs/scaling.md",
            _VOTES,
        ),
    )
}
