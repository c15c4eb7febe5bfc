"""A population: several hypotheses a prompt, run by any decoder from segment to segment.

Legend: B rows, P prompts, H hypotheses of a prompt, W tokens that a step commits at most.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.decoding import (
    Decoder,
    Exactness,
    Info,
    Knob,
    Part,
    Request,
    Rows,
    Settings,
    Status,
    check_decoder,
    once,
    take_rows,
    target_params,
    with_rows,
    with_settings,
)
from jaxdec.model import Model, Params
from jaxdec.sampling import Purpose, key_at
from jaxdec.search.contract import Boundary, Decision, Ending, Independent, Pool, Rule, Scorer
from jaxdec.search.segments import Segment, own_status


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PopulationState:
    """What a step reads.

    Attributes:
      inner: the decoder's own state.
      pool: how the hypotheses stand.
    """

    inner: Any
    pool: Pool

    @property
    def rows(self) -> Rows:
        """The rows."""
        return self.inner.rows

    @property
    def settings(self) -> Settings:
        """The request's settings."""
        return self.inner.settings

    @property
    def cache(self) -> Any:
        """The target's."""
        return self.inner.cache


@dataclasses.dataclass(frozen=True)
class Population:
    """See `population`."""

    decoder: Decoder
    segment: Segment
    rule: Rule
    scorer: Scorer | None = None
    ending: Ending | None = None
    exactness: Exactness = Exactness.HEURISTIC

    @property
    def model(self) -> Model:
        """The target."""
        return self.decoder.model

    @property
    def width(self) -> int:
        """W, of the decoder."""
        return self.decoder.width

    @property
    def parts(self) -> tuple[Part, ...]:
        """The decoder's, and those of the population."""
        own = (self.rule, self.scorer, self.ending)
        return *getattr(self.decoder, "parts", ()), *(part for part in own if part is not None)

    @property
    def knobs(self) -> dict[str, Knob]:
        """The decoder's, and those of the parts."""
        own = (self.rule, self.scorer, self.ending)
        found = dict(getattr(self.decoder, "knobs", {}))
        for part in own:
            found.update({} if part is None else part.knobs)
        return found

    @property
    def steps_per_token(self) -> int:
        """A row waits for others, and may go back to a shorter past."""
        return np.iinfo(np.int32).max  # each segment has a bound of its own, see `_bounded`

    @property
    def steps_alone(self) -> bool:
        """As the decoder's; a row waits for those of its own prompt alone."""
        return getattr(self.decoder, "steps_alone", True)

    @property
    def target_rests(self) -> bool:
        """As the decoder's."""
        return getattr(self.decoder, "target_rests", False)

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for what the decoder or a part cannot serve."""
        if request.order is not None:
            raise ValueError("a population continues prompts, got an order of generation")
        self.segment.check(self.model.vocab_size)
        self.decoder.check(request, params)
        for part in (self.rule, self.scorer, self.ending):
            if part is not None:
                part.check(request, params)

    def init(self, params: Params, request: Request) -> PopulationState:
        """Reads the prompts, each once."""
        inner = self.decoder.init(params, request)
        if not hasattr(inner, "cache"):
            raise ValueError(
                f"a population reads the target's cache, and a {type(inner).__name__} has none by that name"
            )
        pool = self.rule.start(Pool.of(inner.rows), inner.rows)
        waiting = pool.parked & inner.rows.running
        return PopulationState(inner, dataclasses.replace(pool, waiting=waiting))

    def step(
        self, params: Params, state: PopulationState, rng: jax.Array
    ) -> tuple[PopulationState, Info]:
        """A step of the rows whose segments last; where all of a prompt's have ended, its rule decides how to go on."""
        here = jnp.arange(len(state.pool.source), dtype=jnp.int32)
        beams = state.rows.hypotheses
        source = here // beams * beams + state.pool.source
        state = once(jnp.any(source != here), lambda held: _moved(held, source), state)
        before = state.rows
        inner, info = self._inner_step(params, state, _own_keys(rng, state.pool))
        inner, waiting = self._ended(state, inner)
        pool = _counted(state.pool, info, before.running & ~state.pool.waiting)
        pool = dataclasses.replace(pool, waiting=pool.waiting | waiting)
        state = PopulationState(self._bounded(inner, pool), pool)
        state = self._given_up(params, state)
        state, scored = self._decided(params, state, before.running, info.own, rng)
        info = dataclasses.replace(
            info,
            source=source,
            status=state.rows.status,
            target_forwards=info.target_forwards + scored,
            target_rows=info.target_rows + scored,
        )
        return state, info

    def _inner_step(
        self, params: Params, state: PopulationState, keys: jax.Array
    ) -> tuple[Any, Info]:
        """The decoder's step, of rows that do not wait, under settings that end them where their segments end."""
        rows, pool, settings = state.rows, state.pool, state.settings
        status = jnp.where(rows.running & pool.waiting, int(Status.CANCELLED), rows.status)
        inner = with_rows(state.inner, dataclasses.replace(rows, status=status))
        limited = self.rule.asks(self.segment.limited(settings, rows, pool), pool)
        inner, info = self.decoder.step(params, with_settings(inner, limited), keys)
        return with_settings(inner, settings), info

    def _ended(self, state: PopulationState, inner: Any) -> tuple[Any, jax.Array]:
        """Rows after a step with the statuses that are their own, and which of them have ended a segment."""
        before, rows, pool = state.rows, inner.rows, state.pool
        stepped = before.running & ~pool.waiting
        cut = jnp.zeros_like(stepped)
        for code in (Status.EOS, Status.STOP_SEQUENCE, Status.LENGTH):
            cut |= rows.status == code
        cut &= stepped
        own = own_status(state.settings, rows)
        # A row that goes on needs room for another step.
        full = rows.length >= rows.tokens.shape[1]
        full |= inner.cache.capacity - inner.cache.length < self.width
        own = jnp.where((own == Status.RUNNING) & full, int(Status.CACHE_FULL), own)
        status = jnp.where(cut, own, jnp.where(stepped, rows.status, before.status))
        waiting = cut & (own == Status.RUNNING)
        return with_rows(inner, dataclasses.replace(rows, status=status)), waiting

    def _given_up(self, params: Params, state: PopulationState) -> PopulationState:
        """Ends the rows that others have made needless."""
        if self.ending is None:
            return state
        rows = state.rows
        over = self.ending.over(self.ending.own(params), rows, state.pool) & rows.running
        status = jnp.where(over, int(Status.PRUNED), rows.status)
        inner = with_rows(state.inner, dataclasses.replace(rows, status=status))
        return dataclasses.replace(state, inner=inner)

    def _bounded(self, inner: Any, pool: Pool) -> Any:
        """Ends rows whose segment takes more steps than its tokens can ask for."""
        rows = inner.rows
        most = rows.tokens.shape[1] * getattr(self.decoder, "steps_per_token", 1)
        stalled = rows.running & ~pool.waiting & (pool.steps >= min(most, np.iinfo(np.int32).max))
        status = jnp.where(stalled, int(Status.STALLED), rows.status)
        return with_rows(inner, dataclasses.replace(rows, status=status))

    def _decided(
        self, params: Params, state: PopulationState, ran: jax.Array, said: Any, rng: jax.Array
    ) -> tuple[PopulationState, jax.Array]:
        """What the rule makes of prompts all of whose rows wait or have ended, and the rows that were scored for it."""
        rows, pool = state.rows, state.pool
        of_any = lambda x: jnp.repeat(x.reshape(-1, rows.hypotheses).any(1), rows.hypotheses)
        ready = of_any(ran) & ~of_any(rows.running & ~pool.waiting)
        held = pool, rows.status, jnp.zeros_like(rows.length)
        decide = lambda held: self._decide(params, state, held, ready, said, rng)
        pool, status, cost = once(ready.any(), decide, held)
        inner = with_rows(state.inner, dataclasses.replace(rows, status=status))
        return PopulationState(inner, pool), cost

    def _decide(
        self,
        params: Params,
        state: PopulationState,
        held: tuple[Pool, jax.Array, jax.Array],
        ready: jax.Array,
        said: Any,
        rng: jax.Array,
    ) -> tuple[Pool, jax.Array, jax.Array]:
        pool, status, cost = held
        rows = dataclasses.replace(state.rows, status=status)
        before = pool.scores
        if self.scorer is not None:
            own, target = self.scorer.own(params), target_params(params)
            found = self.scorer.score(own, self.model, target, state.cache, rows, pool)
            pool = dataclasses.replace(pool, scores=jnp.where(ready, found, before))
            cost = cost + ready.astype(jnp.int32) * self.scorer.forwards
        ended = ready & (rows.length > pool.start)
        pool = dataclasses.replace(pool, segments=pool.segments + ended)
        keys = key_at(rng, Purpose.BOUNDARY, pool.boundaries)
        boundary = Boundary(pool, rows, state.settings, keys, ready, before, said)
        decision = self.rule.decide(self.rule.own(params), boundary)
        return *_after(boundary, decision), cost


def _after(boundary: Boundary, decision: Decision) -> tuple[Pool, jax.Array]:
    """Pool and statuses after a decision, of the prompts that are ready; rows move before the next step."""
    pool, rows, ready, here = boundary.pool, boundary.rows, boundary.ready, boundary.here
    lives = boundary.by_prompt(rows.running & ready).any(1, keepdims=True)
    source = jnp.where(lives, decision.source.astype(here.dtype), here)
    runs = jnp.take_along_axis(boundary.by_prompt(rows.running), source, axis=1)
    over = lives & runs & decision.ended & (source == here)
    flat = lambda x: x.reshape(-1)
    status = jnp.where(flat(over), int(Status.PRUNED), rows.status)
    chosen = lambda new, old: jnp.where(ready, flat(new).astype(old.dtype), old)
    at = lambda x: ready.reshape(-1, *(1,) * (x.ndim - 1))
    keep = lambda new, old: jnp.where(at(old), new.astype(old.dtype), old)
    pool = dataclasses.replace(
        pool,
        own=jax.tree.map(keep, decision.own, pool.own),
        log_weights=chosen(decision.log_weights, pool.log_weights),
        source=flat(source),
        waiting=chosen(decision.parked & runs & ~over, pool.waiting),
        parked=chosen(decision.parked, pool.parked),
        most=chosen(decision.most, pool.most),
        boundaries=pool.boundaries + ready,
        start=chosen(rows.length, pool.start),
        start_log_probs=chosen(pool.log_probs, pool.start_log_probs),
        steps=jnp.where(ready, 0, pool.steps),
    )
    return pool, status


def _moved(state: PopulationState, source: jax.Array) -> PopulationState:
    """Every row with the past of another; what a rule has given a row it keeps."""
    pool = state.pool
    here = jnp.arange(len(source), dtype=jnp.int32)
    kept = dataclasses.replace(
        take_rows(pool, source),
        log_weights=pool.log_weights,
        waiting=pool.waiting,
        parked=pool.parked,
        most=pool.most,
        source=here % state.rows.hypotheses,
        moves=pool.moves + (source != here),
    )
    return PopulationState(take_rows(state.inner, source), kept)


def _own_keys(rng: jax.Array, pool: Pool) -> jax.Array:
    """The row's own key, or a fold of it once the row began anew: what it drew before decided that it should."""
    fresh = key_at(rng, Purpose.SEGMENT, pool.moves)
    return jnp.where(pool.moves == 0, rng, fresh)


def _counted(pool: Pool, info: Info, stepped: jax.Array) -> Pool:
    """The pool after a step of some rows: log-probabilities, and the weights of a decoder that gives any."""
    new = jnp.arange(info.tokens.shape[1]) < info.count[:, None]
    log_probs = pool.log_probs + jnp.sum(jnp.where(new, info.log_probs, 0.0), axis=1)
    weights = pool.log_weights
    if isinstance(info.own, dict) and "log_weight" in info.own:
        weights = jnp.where(stepped, weights + info.own["log_weight"], weights)
    return dataclasses.replace(
        pool, log_probs=log_probs, log_weights=weights, steps=pool.steps + stepped
    )


def population(
    decoder: Decoder,
    *,
    segment: Segment,
    rule: Rule | None = None,
    scorer: Scorer | None = None,
    ending: Ending | None = None,
) -> Population:
    """Several hypotheses a prompt, run by any decoder from segment to segment.

    All rows of a prompt run until their segments end, or they do. Then each is scored, and the rule says which pasts go
    on, how often and with which weights: rows, caches, records and drafts move alike. A row that takes another past
    draws with a key of its own from there on, so that its copies differ.

    `generate(decoder, ..., hypotheses=H)` decodes with one; `Result.pool` holds weights and scores.

    Args:
      decoder: what decodes within segments, plain or speculative: a population of exact rows is exact.
      segment: where segments end, from `jaxdec.search`.
      rule: what becomes of the hypotheses there; all go on if not given.
      scorer: what their pasts are scored by, for rules that read scores.
      ending: which hypotheses are given up because of what others have reached, after any step.

    Raises:
      ValueError: for parts of another type, or a decoder that fills a canvas.

    Exactness: the rule's; segments and moves alone change no law: with a rule by which everybody goes on, rows are
    those of the decoder, token for token where its verifier shares noise.
    """
    check_decoder(decoder)
    if getattr(decoder, "fills_canvas", False):
        raise ValueError(
            f"a population continues prompts, got {type(decoder).__name__}, which fills a canvas"
        )
    kinds = dict(segment=Segment, rule=Rule, scorer=Scorer, ending=Ending)
    given = dict(segment=segment, rule=rule, scorer=scorer, ending=ending)
    for name, part in given.items():
        if not isinstance(part, kinds[name]) and (part is not None or name == "segment"):
            got = getattr(part, "__name__", type(part).__name__)
            raise ValueError(f"{name} must be a {kinds[name].__name__} of jaxdec.search, got {got}")
    return Population(decoder, segment, rule or Independent(), scorer, ending)
