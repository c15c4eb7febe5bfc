"""Two small decoders that move rows, written on the public contract alone."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.decoding import (
    Decoder,
    Exactness,
    Info,
    Rows,
    Settings,
    prefill,
    take_rows,
    target_params,
)
from jaxdec.model import Inputs, Model, score
from jaxdec.sampling import Purpose, key_at, uniform


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BeamState:
    rows: Rows
    settings: Settings
    cache: Any
    scores: jax.Array


@dataclasses.dataclass(frozen=True)
class Beam:
    """Beam search: of all one-token continuations of a prompt's hypotheses, the H most probable."""

    model: Model
    width: int = 1
    exactness: Exactness = Exactness.HEURISTIC

    def check(self, request, params):
        pass

    def init(self, params, request):
        first = jnp.arange(request.prompt.shape[0]) % request.hypotheses == 0
        return BeamState(
            rows=Rows.start(request, self.model.vocab_size),
            settings=request.settings,
            cache=prefill(self.model, target_params(params), request),
            scores=jnp.where(first, 0.0, -jnp.inf).astype(jnp.float32),
        )

    def step(self, params, state, rng):
        rows, settings = state.rows, state.settings
        beams, vocab_size = rows.hypotheses, self.model.vocab_size
        inputs = Inputs.causal(rows.pending[:, None], rows.length - 1)
        output = score(self.model, target_params(params), inputs, state.cache, rows.order)
        law = settings.warp.log_probs(output.logits[:, 0], rows.history)
        # A hypothesis that has ended is its own only continuation.
        ended = jnp.where(jnp.arange(vocab_size) == 0, 0.0, -jnp.inf)
        total = state.scores[:, None] + jnp.where(rows.running[:, None], law, ended)
        best, at = jax.lax.top_k(total.reshape(-1, beams * vocab_size), beams)
        prompt = jnp.arange(len(best), dtype=jnp.int32)[:, None]
        source = (prompt * beams + at // vocab_size).reshape(-1)
        token = (at % vocab_size).reshape(-1, 1)

        rows, cache, entries, law = take_rows((rows, state.cache, output.entries, law), source)
        log_probs = jnp.take_along_axis(law, token, axis=1)
        before, one = rows, jnp.ones_like(rows.length)
        rows, count = rows.advance(settings, token, one, jnp.isfinite(log_probs))
        key_spans = visibility.causal(before.length[:, None] - 1).key_spans
        cache = cache.commit(entries, jnp.zeros_like(token), count, key_spans)
        none, ran = jnp.zeros_like(count), before.running.astype(jnp.int32)
        info = Info(
            tokens=token,
            start=before.length,
            count=count,
            log_probs=log_probs,
            raw_log_probs=log_probs,
            drafted=jnp.zeros(token.shape, bool),
            proposed=none,
            accepted=none,
            target_forwards=ran,
            target_rows=ran,
            draft_forwards=none,
            status=rows.status,
            steps=before.rounds[:, None],
            source=source,
            own={"scores": best.reshape(-1)},
        )
        return BeamState(rows, settings, cache, best.reshape(-1)), info


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ResampledState:
    inner: Any
    step: jax.Array

    @property
    def rows(self) -> Rows:
        return self.inner.rows


@dataclasses.dataclass(frozen=True)
class Resampled:
    """Any decoder; before each of its steps every row takes the past of a row of its prompt, drawn by its own key."""

    inner: Decoder

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def init(self, params, request):
        return ResampledState(
            self.inner.init(params, request), jnp.zeros_like(jnp.asarray(request.lengths))
        )

    def source(self, step, running, beams, rng):
        """Every second time the row itself, and always once all rows of its prompt have ended."""
        row = jnp.arange(len(step), dtype=jnp.int32)
        draw = uniform(key_at(rng, Purpose.ORDER, step))
        other = row // beams * beams + jnp.floor(draw * 2 * beams).astype(jnp.int32)
        runs = jnp.repeat(running.reshape(-1, beams).any(1), beams)
        return jnp.where((draw * 2 < 1) & runs, other, row)

    def step(self, params, state, rng):
        rows = state.rows
        source = self.source(state.step, rows.running, rows.hypotheses, rng)
        inner, info = self.inner.step(params, take_rows(state.inner, source), rng)
        return ResampledState(inner, state.step + 1), dataclasses.replace(info, source=source)
