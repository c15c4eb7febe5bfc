"""Hypotheses that continue one another: what every decoder does that chooses among continuations of a prompt's rows.

Legend: B rows, P prompts, G groups of W hypotheses of each, H = G W, B = P H, K choices of a group, M = P G K.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.decoding import Info, Knob, Request, Rows, Settings, Status, by_row
from jaxdec.sampling import TopTokens, Warp
from jaxdec.search.beam_rules.contract import Choice
from jaxdec.search.finished import Chosen, Limits, Settled, settle, settle_in_place

ENDING = {
    "length_penalty": Knob(1.0),
    "early_stopping": Knob(0, low=0, high=2, integer=True),
}
"""Settings of a search that sets finished hypotheses aside."""


def choices(settings: Settings, width: int, most: int) -> int:
    """K, static: choices of a group of W hypotheses, enough that W go on whichever end by an EOS token.

    Args:
      settings: the request's.
      width: W.
      most: continuations of each hypothesis.
    """
    ends = settings.stops.eos.shape[0]
    if settings.row_stops is not None:
        ends += settings.row_stops.eos.shape[1]
    return width * min(1 + max(ends, 1), most)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scores:
    """How the hypotheses of a search stand.

    Attributes:
      scores: float32 `[B]`, what they are ranked by; at the end those of the rows as they are returned. -inf for a
        hypothesis that does not exist.
    """

    scores: jax.Array

    @property
    def log_weights(self) -> jax.Array:
        """The scores, float32 `[B]`: as of any pool, the largest is the answer's."""
        return self.scores


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Laws:
    """What a step knows of the next token of each row.

    Attributes:
      log_probs: float32 `[B, V]`, warped.
      raw_log_probs: float32 `[B, V]`.
      top: the most probable tokens `[B, 1, K]`, or None.
      scored: int32 `[B]`, forwards of the target that the row took part in.
    """

    log_probs: jax.Array
    raw_log_probs: jax.Array
    top: TopTokens | None
    scored: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Hypotheses:
    """The rows of all prompts, and what was set aside.

    Attributes:
      rows: committed tokens.
      scores: float32 `[B]`.
      own: what the rule keeps, a pytree of arrays `[B, ...]`.
      shelf: finished hypotheses, `Rows` of B rows, the best of each group first; None where they keep their places.
      shelf_scores: float32 `[B]`, -inf for nothing; None without a shelf.
    """

    rows: Rows
    scores: jax.Array
    own: Any = ()
    shelf: Rows | None = None
    shelf_scores: jax.Array | None = None

    @classmethod
    def start(cls, request: Request, vocab_size: int, groups: int, aside: bool) -> "Hypotheses":
        """One hypothesis a group, the prompt."""
        rows = Rows.start(request, vocab_size)
        width = request.hypotheses // groups
        first = jnp.arange(len(rows.length)) % width == 0
        scores = jnp.where(first, 0.0, -jnp.inf).astype(jnp.float32)
        if not aside:
            return cls(rows, scores)
        # Buffers of its own: a state is given away, and no buffer can be given away twice.
        shelf = jax.tree.map(jnp.copy, rows)
        return cls(rows, scores, (), shelf, jnp.full_like(scores, -jnp.inf))

    def advance(
        self,
        settings: Settings,
        choice: Choice,
        laws: Laws,
        room: jax.Array | None = None,
    ) -> tuple["Hypotheses", Info, jax.Array]:
        """Takes the choices of a step.

        Args:
          settings: the request's.
          choice: of the continuations, `[P, G, K]`.
          laws: of the next token of each row.
          room: as for `Rows.advance`.

        Returns:
          The hypotheses; what the step did; and which rows' caches each row needs from now on, int32 `[B]`: its own
          where it has ended.
        """
        shape = choice.token.shape
        prompts, groups = shape[:2]
        batch = len(self.scores)
        hypotheses = batch // prompts
        first = hypotheses * jnp.arange(prompts, dtype=jnp.int32)[:, None, None]
        source, token = (first + choice.source).reshape(-1), choice.token.reshape(-1, 1)
        exists = jnp.isfinite(choice.score)
        took = self._continued(settings, source, token, exists.reshape(-1), room)
        in_groups = lambda x: x.reshape(prompts, groups, -1)
        chosen = Chosen(
            source=choice.source % (hypotheses // groups),
            score=choice.score,
            exists=exists,
            ended=~in_groups(took.running),
            new=in_groups(took.length - took.prompt_length),
        )
        settled = self._settled(settings, chosen, in_groups)
        step = _Step(self, took, source, token, laws, choice)
        return step.taken(settled)

    def _continued(
        self,
        settings: Settings,
        source: jax.Array,
        token: jax.Array,
        exists: jax.Array,
        room: jax.Array | None,
    ) -> Rows:
        """The rows that all choices would be, M of them."""
        take = lambda tree: by_row(tree, lambda x: x[source], lambda stops: stops)
        limits = dataclasses.replace(
            settings, warp=Warp(constraint=settings.warp.constraint), knobs={}
        )
        one = jnp.ones_like(source)
        room = None if room is None else room[source]
        rows, _ = take(self.rows).advance(take(limits), token, one, exists[:, None], room=room)
        return rows

    def _settled(self, settings: Settings, chosen: Chosen, in_groups: Any) -> Settled:
        scores, active = in_groups(self.scores), in_groups(self.rows.running).any(-1)
        if self.shelf_scores is None:
            return settle_in_place(chosen, scores, active)
        of_prompt = lambda x: in_groups(x)[:, 0, :1]
        limits = Limits(
            length_penalty=of_prompt(settings.knobs["length_penalty"]),
            early_stopping=of_prompt(settings.knobs["early_stopping"]),
            budget=of_prompt(settings.max_new_tokens),
        )
        return settle(chosen, scores, in_groups(self.shelf_scores), active, limits)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SearchState:
    """What a step reads.

    Attributes:
      held: the hypotheses, and those that were set aside.
      settings: the request's settings.
      cache: the target's, one token behind the rows; of one row a hypothesis, or a prompt.
    """

    held: Hypotheses
    settings: Settings
    cache: Any

    @property
    def rows(self) -> Rows:
        """The hypotheses' rows."""
        return self.held.rows

    @property
    def shelf(self) -> Rows | None:
        """The rows that were set aside; None where hypotheses keep their places."""
        return self.held.shelf

    @property
    def pool(self) -> Scores:
        """How the hypotheses stand."""
        return Scores(self.held.scores)


@dataclasses.dataclass(frozen=True)
class _Step:
    """A step whose choices are known: `took`, the rows `[M]` that they would be, of rows `source [M]`."""

    held: Hypotheses
    took: Rows
    source: jax.Array
    token: jax.Array
    laws: Laws
    choice: Choice

    @property
    def batch(self) -> int:
        return len(self.held.scores)

    def taken(self, settled: Settled) -> tuple[Hypotheses, Info, jax.Array]:
        """See `Hypotheses.advance`."""
        held, flat = self.held, lambda x: x.reshape(-1)
        at = self._absolute(settled.rows)
        rows = self._rows(at)
        stuck = flat(settled.stuck) & rows.running
        status: Any = jnp.where(stuck, int(Status.NONFINITE), rows.status)
        rows = dataclasses.replace(rows, status=status)
        info = self._info(at, status)
        scores = flat(settled.scores)
        own = jax.tree.map(
            lambda new, old: self._pool(new.reshape(-1, *old.shape[1:]), old, old)[at],
            self.choice.own,
            held.own,
        )
        shelf, shelf_scores = held.shelf, held.shelf_scores
        if shelf is not None:
            on = self._absolute(settled.shelf)
            shelf, shelf_scores = self._rows(on), flat(settled.shelf_scores)
            info = dataclasses.replace(info, shelf=self._info(on, shelf.status))
        moves = jnp.where(
            rows.running & (info.count > 0), self._sources(at), jnp.arange(self.batch)
        )
        info = dataclasses.replace(info, own={"scores": scores})
        return Hypotheses(rows, scores, own, shelf, shelf_scores), info, moves.astype(jnp.int32)

    def _absolute(self, place: jax.Array) -> jax.Array:
        """Places of groups `[P, G, W]` as places `[B]` in the choices, the shelf and the rows of all, M + 2 B."""
        prompts, groups, width = place.shape
        choices = self.choice.token.shape[-1]
        group = jnp.arange(prompts * groups, dtype=jnp.int32).reshape(prompts, groups, 1)
        chosen = group * choices + place
        held = len(self.source) + group * width + place - choices
        held = jnp.where(place < choices + width, held, held - width + self.batch)
        return jnp.where(place < choices, chosen, held).reshape(-1)

    def _pool(self, chosen: Any, shelf: Any, rows: Any) -> Any:
        """Choices, shelf and rows side by side, `[M + 2 B, ...]`."""
        return jax.tree.map(lambda *x: jnp.concatenate(x), chosen, shelf, rows)

    def _rows(self, at: jax.Array) -> Rows:
        held = self.held
        shelf = held.rows if held.shelf is None else held.shelf
        return jax.tree.map(lambda x: x[at], self._pool(self.took, shelf, held.rows))

    def _sources(self, at: jax.Array) -> jax.Array:
        """The row, or behind the rows the place of the shelf, that what stands at some places was before."""
        batch, many = self.batch, len(self.source)
        aside = at - many  # the shelf is behind the choices, the rows behind the shelf
        kept = jnp.where(aside < batch, batch + aside, jnp.arange(batch, dtype=jnp.int32))
        return jnp.where(at < many, self.source[jnp.minimum(at, many - 1)], kept)

    def _info(self, at: jax.Array, status: jax.Array) -> Info:
        """What became of rows that are now what stood at some places."""
        batch, many = self.batch, len(self.source)
        row = jnp.arange(batch, dtype=jnp.int32)
        chosen, laws, before = at < many, self.laws, self.held.rows
        choice = jnp.minimum(at, many - 1)
        past = self.source[choice]
        aside = at - many  # the shelf is behind the choices, the rows behind the shelf
        token = self.token[choice]
        pick = lambda law: jnp.take_along_axis(law[past], token, axis=1)
        took = jnp.where(chosen, self.took.length[choice] - before.length[past], 0)
        # A row that stays as it is was scored like any other.
        of_source = jnp.where(chosen, past, row)
        ran = jnp.where(chosen | (aside >= batch), laws.scored[of_source], 0)
        return Info.undrafted(
            tokens=token,
            start=before.length[past],
            count=took,
            log_probs=pick(laws.log_probs),
            raw_log_probs=pick(laws.raw_log_probs),
            target_forwards=ran,
            target_rows=ran,
            status=status,
            steps=before.rounds[past][:, None],
            top=jax.tree.map(lambda x: x[past], laws.top),
            source=self._sources(at),
        )
