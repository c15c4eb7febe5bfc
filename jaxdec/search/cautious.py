"""Cautious next-token prediction: where the model is unsure, trials run to the next pause, and the likeliest stays.

Legend: B rows, P prompts, H hypotheses of a prompt (trials at most), V vocabulary.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxdec.autoregressive import Autoregressive, DrawnToken
from jaxdec.decoding import Exactness, Knob, Rows, Settings
from jaxdec.model import Model, Params
from jaxdec.search.contract import UNBOUNDED, Boundary, Decision, Pool, Rule
from jaxdec.search.population import Population, population
from jaxdec.search.segments import until

IN_TRIAL = "in_trial"
"""The setting by which the rule tells the decoder which rows are in a trial; not for callers."""
KNOBS = {
    "trials_most": Knob(10, low=1, high=1 << 16, integer=True),
    "entropy_low": Knob(0.01, low=0.0),
    "entropy_high": Knob(1.5, low=0.0),
    IN_TRIAL: Knob(0, low=0, high=1, integer=True),
}


def trials(entropy: jax.Array, settings: Settings, hypotheses: int) -> jax.Array:
    """How many trials a law asks for, int32 `[B]`.

    n = floor(1 + (n_most - 1) clip((H - H_low) / (H_high - H_low), 0, 1)),   at most the hypotheses there are
    """
    knobs = settings.knobs
    low, high = knobs["entropy_low"], knobs["entropy_high"]
    span = jnp.maximum(high - low, jnp.finfo(jnp.float32).tiny)
    share = jnp.clip((entropy - low) / span, 0.0, 1.0)
    most = jnp.minimum(knobs["trials_most"], hypotheses)
    return jnp.floor(1 + (most - 1) * share).astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class Unsure(Autoregressive):
    """Plain decoding in which the rows of a prompt draw as one, but where the law asks for trials."""

    exactness: Exactness = Exactness.HEURISTIC

    @property
    def knobs(self) -> dict[str, Knob]:
        """See `cautious`."""
        return KNOBS

    def draw(self, settings: Settings, rows: Rows, logits: jax.Array, rng: jax.Array) -> DrawnToken:
        """A token by the first row's noise where rows go together, by the row's own in a trial."""
        law = settings.warp.log_probs(logits, rows.history)
        entropy = -jnp.sum(jnp.where(law > -jnp.inf, jnp.exp(law) * law, 0.0), axis=-1)
        wanted = trials(entropy, settings, rows.hypotheses)
        apart = (settings.knobs[IN_TRIAL] > 0) | (wanted > 1)
        together = jnp.repeat(rng[:: rows.hypotheses], rows.hypotheses)
        keys = jnp.where(apart, rng, together)
        token = settings.warp.draw(law, settings.warp.token_noise(keys, rows.length, law.shape[-1]))
        log_prob = jnp.take_along_axis(law, token[:, None], axis=-1)[:, 0]
        return DrawnToken(token, log_prob, {"trials": wanted})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Trial:
    """How the trials of each prompt stand.

    Attributes:
      runs: bool `[B]`, whether the rows are in one.
      takes_part: bool `[B]`, whether the row does.
      start: int32 `[B]`, tokens of the row before it.
      log_probs: float32 `[B]`, of its new tokens before it.
    """

    runs: jax.Array
    takes_part: jax.Array
    start: jax.Array
    log_probs: jax.Array


@dataclasses.dataclass(frozen=True)
class Likeliest(Rule):
    """One token at a time while the law is sure; else trials to the next delimiter, of which the likeliest goes on."""

    delimiters: tuple[int, ...] = ()

    def start(self, pool: Pool, rows: Rows) -> Pool:
        """No trial."""
        none = jnp.zeros(pool.parked.shape, bool)
        own = Trial(none, none, jnp.zeros_like(rows.length), jnp.zeros_like(pool.log_probs))
        return dataclasses.replace(pool, most=jnp.ones_like(pool.most), own=own)

    def asks(self, settings: Settings, pool: Pool) -> Settings:
        """Tells the decoder which rows are in a trial."""
        told = pool.own.runs.astype(jnp.int32)
        return dataclasses.replace(settings, knobs={**settings.knobs, IN_TRIAL: told})

    def decide(self, params: Params, boundary: Boundary) -> Decision:
        """Ends a trial, begins one, or goes on."""
        pool, rows, each = boundary.pool, boundary.rows, boundary.by_prompt
        trial, here = pool.own, boundary.here
        runs = each(trial.runs)
        flat = lambda x: jnp.broadcast_to(x, here.shape).reshape(-1)
        # The beginning of a trial: the first token has been drawn by every row.
        wanted = each(boundary.said["trials"])[:, :1]
        begins = ~runs & (wanted > 1)
        keep = lambda new, old: jnp.where(flat(begins), new, old)
        own = Trial(
            runs=flat(begins),
            takes_part=keep(flat(here < wanted), trial.takes_part),
            start=keep(pool.start, trial.start),
            log_probs=keep(pool.start_log_probs, trial.log_probs),
        )
        # The end of one: the row of the highest mean log-probability, the first of several.
        mean = (pool.log_probs - own.log_probs) / jnp.maximum(rows.length - own.start, 1)
        mean = jnp.where(own.takes_part & ~jnp.isnan(mean), mean, -jnp.inf)
        best = jnp.argmax(each(mean), axis=1, keepdims=True).astype(jnp.int32)
        # Nobody moves any more where all have ended: the weight says which of them stays.
        last = (runs | begins) & ~each(boundary.live).any(1, keepdims=True)
        weights = jnp.where(last & (here != best), -jnp.inf, 0.0).astype(jnp.float32)
        paused = (rows.pending[:, None] == jnp.asarray(self.delimiters, jnp.int32)).any(1)
        return dataclasses.replace(
            Decision.stay(boundary),
            source=jnp.where(runs, best, here),
            log_weights=weights,
            parked=begins & each(~own.takes_part | paused),
            most=jnp.where(begins, UNBOUNDED, 1),
            own=own,
        )


def cautious(
    model: Model, *, delimiters: Sequence[int | Sequence[int]], phrase: int | None = None
) -> Population:
    """Cautious Next Token Prediction (CNTP): trials where the law's entropy is high, of which the likeliest stays.

        n = floor(1 + (trials_most - 1) clip((H - entropy_low) / (entropy_high - entropy_low), 0, 1))

    with H the entropy of the warped law, in nats. With n = 1 a token is drawn; else n trials are, each to the next
    delimiter or end, and the one of the lowest perplexity, `exp(-mean log p)`, goes on, the first of several. The rows
    of a prompt are its trials: they draw as one while there are none, so nothing moves then.

    Args:
      model: the target; `hypotheses` bounds the trials.
      delimiters: tokens that end a trial and belong to it, such as those of `.` and of a new line.
      phrase: tokens of a trial after its first, at most; None for as many as the row has.

    Knobs: `trials_most` (10), `entropy_low` (0.01) and `entropy_high` (1.5). The answer is the first row with weight 1
    (`Result.pool.log_weights` is 0): all rows have its text, but where a trial was the last.

    Raises:
      ValueError: for no delimiter, one of several tokens, or `phrase` below 1.

    Exactness: heuristic. One hypothesis is plain decoding.
    Source: 2507.03038. Its trials have no bound of tokens; there the first token of every trial is drawn anew, as here.
    """
    segment = until(list(delimiters), most=phrase)
    for delimiter in segment.delimiters:
        if len(delimiter) > 1:
            raise ValueError(f"a delimiter of a trial is one token, got {list(delimiter)}")
    singles = tuple(d[0] for d in segment.delimiters)
    return population(Unsure(model), segment=segment, rule=Likeliest(singles))
