"""Superposed decoding: several drafts out of one stream of mixed embeddings.

Legend: B rows, P prompts, H drafts of a prompt, B = P H; m candidates of a draft, K choices of a prompt, V vocabulary.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.arguments import typed
from jaxdec.decoding import (
    Exactness,
    Info,
    Knob,
    Part,
    Request,
    Rows,
    by_prompt,
    prefill,
    target_params,
)
from jaxdec.model import Inputs, Mixture, Model, Params
from jaxdec.sampling import top_tokens
from jaxdec.search.beam_rules.contract import Choice, best_of
from jaxdec.search.hypotheses import ENDING, Hypotheses, Laws, SearchState, choices
from pallas_kernels import top_k

WEIGHTS = {2: 0.01, 3: 0.04, 4: 0.15, 5: 0.18, 6: 0.12}
"""Of n-grams, by their order, as the paper has them."""

_MISSING = 200.0
"""What a draft loses by a step in which no n-gram says anything of it."""


@dataclasses.dataclass(frozen=True)
class NGrams(Part):
    """A store of n-grams, the parameters of this name: `ngram_store` makes them."""

    name: str = "ngrams"

    def chances(self, params: Params, rows: Rows, tokens: jax.Array) -> jax.Array:
        """sum_n w_n count(context_n, v) / count(context_n) of tokens `[B, m]` after each row, float32 `[B, m]`."""
        total = jnp.zeros(tokens.shape, jnp.float32)
        tables: Any = self.own(params)
        for table in tables:
            width = table.order - 1
            found = table.chance(rows.window(rows.length - width, width), tokens)
            found = jnp.where((rows.length >= width)[:, None], found, 0.0)
            total += WEIGHTS.get(table.order, 0.0) * found
        return total


@dataclasses.dataclass(frozen=True)
class Superposed:
    """See `superposed`."""

    model: Model
    candidates: int = 9
    ngrams: NGrams | None = None
    width: int = 1
    exactness: Exactness = Exactness.HEURISTIC
    draws: bool = False

    @property
    def parts(self) -> tuple[Part, ...]:
        """The store of n-grams, if there is one."""
        return () if self.ngrams is None else (self.ngrams,)

    @property
    def knobs(self) -> dict[str, Knob]:
        """Those of how a search ends, and of how drafts are scored."""
        ending = {**ENDING, "length_penalty": Knob(0.0)}
        own = {"sharpness": Knob(0.06, low=1e-6), "ngram_weight": Knob(0.54, low=0.0, high=1.0)}
        return {**ending, **(own if self.ngrams is not None else {"sharpness": own["sharpness"]})}

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for what one stream cannot do."""
        if request.order is not None:
            raise ValueError("superposed decoding reads from left to right; order must be left out")
        if self.ngrams is not None:
            self.ngrams.check(request, params)

    def init(self, params: Params, request: Request) -> SearchState:
        """Reads the prompts, each into one stream."""
        held = Hypotheses.start(request, self.model.vocab_size, 1, True)
        alone = by_prompt(request, request.hypotheses)
        return SearchState(
            held, request.settings, prefill(self.model, target_params(params), alone)
        )

    def step(self, params: Params, state: SearchState, rng: jax.Array) -> tuple[SearchState, Info]:
        """Reads the last tokens of all drafts as one, and continues each draft by what the stream says."""
        rows, settings, cache = state.rows, state.settings, state.cache
        drafts = rows.hypotheses
        inputs = self._mixed(state)
        output = self.model(target_params(params), inputs, cache)
        spread = lambda x: jnp.repeat(x, drafts, axis=0)
        logits = spread(output.logits[:, 0])
        law = settings.warp.log_probs(logits, rows.history)
        laws = Laws(
            log_probs=jnp.where(jnp.isnan(law), -jnp.inf, law),
            raw_log_probs=logits - jax.nn.logsumexp(logits, axis=-1, keepdims=True),
            top=top_tokens(logits[:, None], rows.top_log_probs),
            scored=rows.running.astype(jnp.int32),
        )
        choice = self._choice(params, state, laws)
        room = spread(cache.capacity - cache.length)
        held, info, _ = state.held.advance(settings, choice, laws, room)
        # The stream has one row a prompt, and all its drafts have one length: nothing moves.
        found = laws.scored * jnp.isfinite(laws.log_probs).any(-1)
        stored = found.reshape(-1, drafts).max(1).astype(jnp.int32)
        key_spans = visibility.causal(inputs.positions).key_spans
        cache = cache.commit(output.entries, jnp.zeros_like(inputs.tokens), stored, key_spans)
        return SearchState(held, settings, cache), info

    def _mixed(self, state: SearchState) -> Inputs:
        """The last tokens of the drafts of each prompt as one input, `[P, 1]`."""
        drafts = state.rows.hypotheses
        tokens = state.rows.pending.reshape(-1, drafts)
        scores = state.held.scores.reshape(-1, drafts)
        # Of prompts that have ended nothing is read.
        alive = jnp.where(jnp.isfinite(scores).any(-1, keepdims=True), scores, 0.0)
        weights = jax.nn.softmax(alive, axis=-1)
        heaviest = jnp.take_along_axis(tokens, jnp.argmax(weights, -1, keepdims=True), axis=1)
        inputs = Inputs.causal(heaviest, state.cache.length)
        return dataclasses.replace(inputs, mixture=Mixture(tokens[:, None], weights[:, None]))

    def _choice(self, params: Params, state: SearchState, laws: Laws) -> Choice:
        """The best continuations of each prompt's drafts."""
        rows, settings, scores = state.rows, state.settings, state.held.scores
        drafts, size = rows.hypotheses, self.model.vocab_size
        wanted = min(self.candidates, size)
        sharp = laws.log_probs / settings.knobs["sharpness"][:, None]
        values, tokens = top_k(sharp, wanted)
        tokens = tokens.astype(jnp.int32)
        log_probs = jax.nn.log_softmax(values, axis=-1)
        exists = rows.running[:, None] & jnp.isfinite(log_probs)
        log_probs = jnp.where(exists, log_probs, -jnp.inf)
        added = log_probs
        if self.ngrams is not None:
            weight = settings.knobs["ngram_weight"][:, None]
            chances = self.ngrams.chances(params, rows, tokens)
            known = (chances > 0) & exists
            both = (1 - weight) * log_probs + weight * jnp.log(jnp.where(known, chances, 1.0))
            alone = (1 - weight) * jnp.where(exists, log_probs, 0.0) - _MISSING
            scored = jnp.where(
                known.any(-1, keepdims=True), jnp.where(known, both, -jnp.inf), alone
            )
            added = jnp.where(weight > 0, jnp.where(exists, scored, -jnp.inf), log_probs)
        total = (scores[:, None] + added).reshape(-1, 1, drafts, wanted)
        score, source, place = best_of(total, choices(settings, drafts, wanted))
        row = drafts * jnp.arange(len(score), dtype=jnp.int32)[:, None, None] + source
        return Choice(source, tokens[row, place], score)


@typed
def superposed(model: Model, ngrams: NGrams | None = None, candidates: int = 9) -> Superposed:
    """Superposed decoding: H drafts of a prompt out of one forward of one row a token.

    The stream reads the last tokens of all drafts as one embedding, and its law serves every draft:

        x = sum_i w_i E(y_i),  w = softmax of the drafts' scores,      p = softmax(z / sharpness) of the best tokens
        S(y v) = S(y) + (1 - a) log p(v) + a log sum_n w_n count(context_n v) / count(context_n)

    with a the `ngram_weight`. Of all continuations the best go on, as in beam search; drafts that end are set aside.
    Tokens that no n-gram knows are left out; a draft of which none is known loses 200.

    Args:
      model: the target; one that reads mixtures (`Model.mixes`).
      ngrams: the store's part; its tables, of `ngram_store`, are `params["ngrams"]`. None for the stream's law alone.
      candidates: m, tokens of the law that are tried.

    Settings, traced: `sharpness` 0.06, `ngram_weight` 0.54 (with a store), `length_penalty` 0, `early_stopping` as in
    `beams`. The warped law is what `sharpness` sharpens.

    Raises:
      ValueError: for a model that reads no mixtures, or fewer than one candidate.

    Exactness: heuristic; one draft without n-grams is greedy decoding. One forward of one row a prompt and token.
    Reference: Superposed Decoding, arXiv:2405.18400.
    """
    if not model.mixes:
        raise ValueError(
            "superposed decoding feeds mixtures of tokens, which the model does not read (Model.mixes); a "
            "jaxdec.models.Transformer does"
        )
    if candidates < 1:
        raise ValueError(f"candidates must be at least 1, got {candidates}")
    return Superposed(model, candidates, ngrams)
