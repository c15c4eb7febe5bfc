"""Models that take turns: each writes segments ahead of the committed text, and reads what the other one has written.

Legend: B rows, W tokens of a segment at most, K most probable tokens, V vocabulary.
"""

import dataclasses
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jaxdec.autoregressive import AutoregressiveState, autoregressive
from jaxdec.decoding import (
    TARGET,
    Info,
    Part,
    Request,
    Rows,
    Settings,
    Status,
    check_serves,
    once,
    read_on,
)
from jaxdec.decoding.rows import place_chunk
from jaxdec.model import Model, Params
from jaxdec.sampling import TopTokens

Tree = TypeVar("Tree")


def chosen(first: jax.Array, one: Tree, other: Tree) -> Tree:
    """Of two pytrees of arrays `[B, ...]` the rows of `one` where `first [B]` holds, else those of `other`."""
    pick = lambda x, y: jnp.where(first.reshape(-1, *(1,) * (x.ndim - 1)), x, y)
    return jax.tree.map(pick, one, other)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Written:
    """What is recorded of the tokens of a segment.

    Attributes:
      log_probs: float32 `[B, W]`, under the warped law that each was drawn from.
      raw_log_probs: float32 `[B, W]`, under the unwarped law of a model.
      top: the most probable tokens `[B, W, K]` of that law; None where none are asked for.
    """

    log_probs: jax.Array
    raw_log_probs: jax.Array
    top: TopTokens | None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Candidate:
    """A segment of each row, beside the committed text.

    Attributes:
      rows: the committed text and the segment, as far as it was written; a row has ended in it where its segment has,
        and runs in it else, whatever its own status is.
      written: of the segment.
    """

    rows: Rows
    written: Written

    @classmethod
    def start(cls, rows: Rows, width: int) -> "Candidate":
        """Nothing is written after some rows."""
        shape = (*rows.length.shape, width)
        zeros = lambda: jnp.zeros(shape, jnp.float32)
        top = TopTokens.empty(shape, rows.top_log_probs)
        return cls(_open(rows), Written(zeros(), zeros(), top))

    def count(self, rows: Rows) -> jax.Array:
        """Tokens of the segment after committed `rows`, int32 `[B]`."""
        return self.rows.length - rows.length

    @property
    def faulty(self) -> jax.Array:
        """Whether the segment ends because there is no law of its next token, bool `[B]`."""
        return self.rows.status == Status.NONFINITE

    def after(self, rows: Rows, begin: jax.Array) -> "Candidate":
        """A new segment after committed `rows` where `begin [B]` holds."""
        return dataclasses.replace(self, rows=chosen(begin, _open(rows), self.rows))

    def mean_log_prob(self, rows: Rows) -> jax.Array:
        """The mean of the segment's unwarped log-probabilities, float32 `[B]`; 0 for none."""
        count = self.count(rows)
        inside = jnp.arange(self.written.raw_log_probs.shape[1]) < count[:, None]
        total = jnp.sum(jnp.where(inside, self.written.raw_log_probs, 0.0), axis=1)
        return total / jnp.maximum(count, 1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cost:
    """Forwards of a model that rows took part in and the positions that these computed, int32 `[B]` each."""

    forwards: jax.Array
    positions: jax.Array

    def __add__(self, other: "Cost") -> "Cost":
        return jax.tree.map(jnp.add, self, other)


@dataclasses.dataclass(frozen=True)
class Writer(Part):
    """A model that continues rows by plain decoding.

    Its cache holds text that it wrote, or read because it had to go on from there.

    Attributes:
      model: the model.
      width: W.
      name: of its parameters.
    """

    model: Model
    width: int
    name: str = TARGET

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for missing parameters, or a model that cannot serve the request."""
        super().check(request, params)
        check_serves(f"{self.name} model", self.model, params[self.name], request)

    def check_drops(self, request: Request) -> None:
        """Raises `ValueError` unless its cache can go back, for those whose segments are dropped."""
        try:
            jax.eval_shape(lambda: (cache := request.new_cache(self.model)).back_to(cache.length))
        except ValueError as error:
            raise ValueError(f"segments of the {self.name} model are dropped: {error}") from error

    def cost(self, forwards: jax.Array, tokens: int = 1) -> Cost:
        """Of a forward of some tokens of the rows where `forwards [B]` holds."""
        forwards = forwards.astype(jnp.int32)
        return Cost(forwards, forwards * self.model.scored_rows(tokens, 0, 0))

    def write(
        self,
        params: Params,
        cache: Any,
        candidate: Candidate,
        rows: Rows,
        settings: Settings,
        wanted: jax.Array,
        rng: jax.Array,
    ) -> tuple[Any, Candidate, Cost]:
        """A token of each row that is wanted; where the cache lacks text, its next tokens are read first.

        A row that lacks more than W tokens reads as many, and writes in a later step. Where no row needs a forward,
        there is none.

        Args:
          params: the model's own.
          cache: its cache, of text of the candidate.
          candidate: what it wrote so far.
          rows: committed tokens.
          settings: under which a row ends where its segment does.
          wanted: bool `[B]`.
          rng: a key a row `[B]`.
        """
        behind = wanted & (candidate.rows.length - cache.length > 1)
        cache = once(behind.any(), lambda held: self._read(params, held, candidate, behind), cache)
        ready = wanted & (candidate.rows.length - cache.length == 1)

        step = lambda held: self._token(params, held, rows, settings, ready, rng)
        cache, candidate = once(ready.any(), step, (cache, candidate))
        return cache, candidate, self.cost(behind, self.width) + self.cost(ready)

    def _read(self, params: Params, cache: Any, candidate: Candidate, behind: jax.Array) -> Any:
        """Reads up to W tokens of the text, but for its last one."""
        text = candidate.rows
        count = jnp.clip(text.length - 1 - cache.length, 0, self.width)
        tokens = text.window(cache.length, self.width)
        nobody = jnp.zeros((len(text.length), 1), jnp.int32)
        count = jnp.where(behind, count, 0)
        return read_on(self.model, params, cache, tokens, count, at=nobody)[0]

    def _token(
        self,
        params: Params,
        held: tuple[Any, Candidate],
        rows: Rows,
        settings: Settings,
        ready: jax.Array,
        rng: jax.Array,
    ) -> tuple[Any, Candidate]:
        """A step of plain decoding of the rows that are ready."""
        cache, candidate = held
        before, place = candidate.rows, candidate.count(rows)
        status = jnp.where(ready, before.status, int(Status.CANCELLED))
        asked = AutoregressiveState(dataclasses.replace(before, status=status), settings, cache)
        plain = autoregressive(self.model)
        state, info = plain.step({TARGET: params}, asked, rng)
        status = jnp.where(ready, state.rows.status, before.status)
        text = dataclasses.replace(state.rows, status=status)
        return state.cache, Candidate(text, _added(candidate.written, info, place))


def _open(rows: Rows) -> Rows:
    """Rows that run."""
    return dataclasses.replace(rows, status=jnp.full_like(rows.status, int(Status.RUNNING)))


def _added(written: Written, info: Info, place: jax.Array) -> Written:
    """What is recorded, with the tokens of a step from `place [B]` on."""
    new = Written(info.log_probs, info.raw_log_probs, info.top)
    return jax.tree.map(lambda old, one: place_chunk(old, one, place, info.count), written, new)
