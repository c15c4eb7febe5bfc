"""Faults of plain decoding."""

from tests.mutants.mutant import Mutant

FILE = "jaxdec/autoregressive.py"

MUTANTS = [
    Mutant(
        "noise of the round",
        FILE,
        "token_noise(rng, rows.length",
        "token_noise(rng, rows.rounds",
        "noise is keyed by the round rather than by the position",
    ),
    Mutant(
        "raw log-probabilities not normalised",
        FILE,
        "raw_log_probs -= jax.nn.logsumexp(logits, axis=-1, keepdims=True)",
        "pass",
        "the target's own log-probability is a logit",
    ),
    Mutant(
        "steps after the step, plain",
        FILE,
        "state.rows.rounds[:, None], token.shape",
        "rows.rounds[:, None], token.shape",
        "a token is said to be chosen in the step after its own",
    ),
    Mutant(
        "ended rows cost forwards",
        FILE,
        "state.rows.running.astype(jnp.int32)",
        "jnp.ones_like(count)",
        "forwards of rows that have ended are counted",
    ),
    Mutant(
        "position of the next token",
        FILE,
        "Inputs.causal(rows.pending[:, None], rows.length - 1)",
        "Inputs.causal(rows.pending[:, None], rows.length)",
        "the pending token is scored one place late",
    ),
    Mutant(
        "law without its history",
        FILE,
        "settings.warp.log_probs(logits, rows.history)",
        "settings.warp.log_probs(logits, jax.tree.map(jnp.zeros_like, rows.history))",
        "penalties do not see what was written",
    ),
]
