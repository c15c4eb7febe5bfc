"""Beam search in all its forms: one forward of a prompt's hypotheses, and a rule of which continuations go on.

Legend: B rows, P prompts, H hypotheses of a prompt, G groups of W = H / G hypotheses, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import visibility
from jaxdec.arguments import typed
from jaxdec.decoding import (
    Exactness,
    Info,
    Knob,
    Request,
    by_prompt,
    read_prompts,
    take_rows,
    target_params,
)
from jaxdec.model import Inputs, Model, Output, Params, score
from jaxdec.sampling import is_traced, top_tokens
from jaxdec.search.beam_rules import (
    BeamRule,
    Continuations,
    Diverse,
    MostProbable,
    WithoutReplacement,
)
from jaxdec.search.hypotheses import ENDING, Hypotheses, Laws, SearchState, choices


@dataclasses.dataclass(frozen=True)
class Beams:
    """See `beams`."""

    model: Model
    rule: BeamRule
    width: int = 1

    @property
    def exactness(self) -> Exactness:
        """What the rule promises."""
        return getattr(self.rule, "exactness", Exactness.HEURISTIC)

    @property
    def draws(self) -> bool:
        """Whether the rule does."""
        return self.rule.draws

    @property
    def parts(self) -> tuple[BeamRule, ...]:
        """The rule."""
        return (self.rule,)

    @property
    def knobs(self) -> dict[str, Knob]:
        """Those of the rule, and of how a search ends."""
        return {**(ENDING if self.rule.sets_aside else {}), **self.rule.knobs}

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for hypotheses that do not divide over groups, greedy laws with several, watermarks."""
        hypotheses, groups = request.hypotheses, self.rule.groups
        if hypotheses % groups:
            raise ValueError(
                f"hypotheses must divide over {groups} groups, got {hypotheses}; give a multiple of {groups}"
            )
        temperature = request.settings.warp.temperature
        if hypotheses > 1 and temperature is not None and not is_traced(temperature):
            lowest = np.min(np.asarray(temperature), initial=1.0)
            if lowest <= 0:
                raise ValueError(
                    f"temperature must be above 0 for {hypotheses} hypotheses, got {lowest:g}: a greedy law has one "
                    "continuation; leave it out for the model's own law"
                )
        if request.settings.warp.draws_by_key:
            raise ValueError(
                "watermark: got noise of a secret to draw tokens with, and beams choose them; must be left out"
            )
        self.rule.check(request, params)

    def init(self, params: Params, request: Request) -> SearchState:
        """Reads the prompts."""
        rule = self.rule
        held = Hypotheses.start(request, self.model.vocab_size, rule.groups, rule.sets_aside)
        cache = read_prompts(self.model, target_params(params), request)[0]
        held = dataclasses.replace(held, own=rule.start(held.scores))
        return SearchState(held, request.settings, cache)

    def step(self, params: Params, state: SearchState, rng: jax.Array) -> tuple[SearchState, Info]:
        """Scores the pending token of each row, chooses among all continuations, and moves the rows."""
        rows, settings, cache = state.rows, state.settings, state.cache
        inputs = Inputs.causal(rows.pending[:, None], rows.length - 1)
        output = score(self.model, target_params(params), inputs, cache, rows.order)
        laws = self._laws(output, state)
        room = cache.capacity - cache.length
        choice = self.rule.choose(
            self.rule.own(params), self._seen(state, laws, rng), self._choices(state)
        )
        held, info, moves = state.held.advance(settings, choice, laws, room)
        # What a row was asked is stored where it stands; then rows take the cache of their new past.
        key_spans = visibility.causal(inputs.positions).key_spans
        stored = jnp.isfinite(laws.log_probs).any(-1).astype(jnp.int32) * laws.scored
        cache = cache.commit(
            output.entries, jnp.zeros_like(rows.pending[:, None]), stored, key_spans
        )
        cache = take_rows(cache, moves, since=rows.prompt_length - 1)
        return SearchState(held, settings, cache), info

    def _laws(self, output: Output, state: SearchState) -> Laws:
        rows, logits = state.rows, output.logits[:, 0]
        law = state.settings.warp.log_probs(logits, rows.history)
        return Laws(
            log_probs=jnp.where(jnp.isnan(law), -jnp.inf, law),
            raw_log_probs=logits - jax.nn.logsumexp(logits, axis=-1, keepdims=True),
            top=top_tokens(output.logits[:, :1], rows.top_log_probs),
            scored=rows.running.astype(jnp.int32),
        )

    def _choices(self, state: SearchState) -> int:
        """K, the choices of a group."""
        width = state.rows.hypotheses // self.rule.groups
        if not self.rule.sets_aside:
            return width
        return choices(state.settings, width, self.model.vocab_size)

    def _seen(self, state: SearchState, laws: Laws, rng: jax.Array) -> Continuations:
        rows, settings = state.rows, state.settings
        split = lambda x: x.reshape(-1, rows.hypotheses, *x.shape[1:])

        first = by_prompt(settings, rows.hypotheses)  # all rows of a prompt have the same
        ends = lambda tokens: first.ends(tokens.reshape(len(tokens), -1)).reshape(tokens.shape)

        return Continuations(
            law=split(jnp.where(rows.running[:, None], laws.log_probs, -jnp.inf)),
            scores=split(state.held.scores),
            running=split(rows.running),
            new=split(rows.length - rows.prompt_length),
            length=split(rows.length),
            ends=ends,
            knobs={name: first.knobs[name] for name in self.rule.knobs},
            keys=split(rng),
            own=jax.tree.map(split, state.held.own),
        )


@typed
def beams(model: Model, rule: BeamRule | None = None) -> Beams:
    """Beam search: of all one-token continuations of a prompt's H hypotheses, those of highest score.

        S(y v) = S(y) + log p(v | y),   the score of a finished hypothesis of n new tokens:  S(y) / n^length_penalty

    with p the warped law of the target. `generate(..., hypotheses=H)` gives the H best finished hypotheses of each
    prompt in its rows, best first, and their scores in `Result.pool.scores`: the semantics of transformers, token for
    token. A row is a hypothesis; rows that go on stay in their places, and only the caches of others are copied.

    Args:
      model: the target.
      rule: which continuations go on; beam search if not given, see `jaxdec.search.beam_rules`.

    Settings, traced, one value or one a prompt: `length_penalty`, 1 if not given, 0 for none, more for longer texts;
    `early_stopping`, 0 if not given: a prompt ends once its H finished hypotheses are no worse than the best running
    one would be at its present length; 1: as soon as it has H; 2 ("never" in transformers): at its largest length
    where the penalty is positive. And those of the rule.

    Raises:
      ValueError: for what is no rule; when decoding, for a temperature of 0 with several hypotheses.

    Exactness: that of the rule. One forward of H rows a token.
    """
    return Beams(model, MostProbable() if rule is None else rule)


@typed
def diverse_beams(model: Model, groups: int = 2) -> Beams:
    """Beam search in groups that keep away from one another's tokens; see `beam_rules.Diverse` and `beams`.

    Each group ends by itself; the rows of a prompt are its groups in order, each best first.

    Args:
      model: the target.
      groups: G; `hypotheses` is a multiple of it.

    Raises:
      ValueError: for fewer than one group; when decoding, for hypotheses that do not divide over them.

    Exactness: heuristic; beam search with one group, or of each group with `diversity` 0.
    """
    return Beams(model, Diverse(groups))


@typed
def stochastic_beams(model: Model) -> Beams:
    """H different sequences drawn without replacement; see `beam_rules.WithoutReplacement`.

    The rows of a prompt are in the order of their perturbed log-probabilities, `Result.pool.scores`, from which
    `beam_rules.importance` makes unbiased weights. One hypothesis is plain sampling, token for token.

    Args:
      model: the target.

    Exactness: distribution-identical: the first row is a draw from the target's law, the others as many without
    replacement.
    """
    return Beams(model, WithoutReplacement())
