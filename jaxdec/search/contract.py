"""What a population is made of: segments, scores, rules of what goes on, rules of when to end.

The rows of a prompt are its hypotheses. They run the steps of any decoder until their segments end, wait for one
another, are scored and weighed, and go on from the past that a rule gives each.

Legend: B rows, P prompts, H hypotheses of a prompt, B = P H.
"""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.decoding import Part, Rows, Settings
from jaxdec.model import Model, Params

UNBOUNDED = 1 << 28
"""Tokens of a segment that nothing bounds: more than any row holds."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pool:
    """How the hypotheses of each prompt stand.

    Attributes:
      log_weights: float32 `[B]`, up to a constant that rows of a prompt share.
      scores: float32 `[B]`, what the scorer said of the row's past when its last segment ended; 0 before.
      log_probs: float32 `[B]`, of the row's new tokens under the law that they were drawn from.
      start: int32 `[B]`, tokens of the row when its segment began.
      start_log_probs: float32 `[B]`, `log_probs` at that place.
      segments: int32 `[B]`, segments that the row's past consists of.
      waiting: bool `[B]`, whether the row waits for others of its prompt.
      source: int32 `[B]`, the hypothesis of its prompt whose past each row takes before the next step.
      moves: int32 `[B]`, how often the row took the past of another or began anew; its draws go by this too.
      boundaries: int32 `[B]`, how often the rows of the prompt waited for one another.
      steps: int32 `[B]`, that the row took in its segment.
      most: int32 `[B]`, tokens of the segment at most, beside what the rule of segments says.
      parked: bool `[B]`, whether the row sits this segment out.
      own: what the rule keeps of each row's past, a pytree of arrays `[B, ...]`, or None.
    """

    log_weights: jax.Array
    scores: jax.Array
    log_probs: jax.Array
    start: jax.Array
    start_log_probs: jax.Array
    segments: jax.Array
    waiting: jax.Array
    source: jax.Array
    moves: jax.Array
    boundaries: jax.Array
    steps: jax.Array
    most: jax.Array
    parked: jax.Array
    own: Any = None

    @classmethod
    def of(cls, rows: Rows) -> "Pool":
        """Of rows that hold their prompts: equal weights, nobody waits."""
        none = jnp.zeros_like(rows.length)
        zero = none.astype(jnp.float32)
        return cls(
            log_weights=zero,
            scores=zero,
            log_probs=zero,
            start=rows.length,
            start_log_probs=zero,
            segments=none,
            waiting=jnp.zeros(none.shape, bool),
            source=jnp.arange(len(none), dtype=jnp.int32) % rows.hypotheses,
            moves=none,
            boundaries=none,
            steps=none,
            most=jnp.full_like(none, UNBOUNDED),
            parked=jnp.zeros(none.shape, bool),
        )

    def log_evidence(self, hypotheses: int) -> jax.Array:
        """The log of the mean weight of each prompt's hypotheses, float32 `[P]`.

            log Z = logsumexp_h(log w_h) - log H

        For sequential Monte Carlo, Z is an unbiased estimate of the mass of what the target allows.
        """
        weights = jax.nn.logsumexp(self.log_weights.reshape(-1, hypotheses), axis=1)
        return weights - jnp.log(jnp.float32(hypotheses))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Boundary:
    """What a rule sees where all running rows of some prompts wait.

    Attributes:
      pool: of all rows, with the scores of this boundary.
      rows: committed tokens.
      settings: the request's.
      keys: a key a row `[B]`; draws that concern a prompt take its first row's.
      ready: bool `[B]`, rows of the prompts that are at a boundary; what is decided of others is not looked at.
      before: float32 `[B]`, the scores before this boundary.
      said: what the decoder said of its last step, `Info.own`.
    """

    pool: Pool
    rows: Rows
    settings: Settings
    keys: jax.Array
    ready: jax.Array
    before: jax.Array
    said: Any = None

    @property
    def hypotheses(self) -> int:
        """H."""
        return self.rows.hypotheses

    @property
    def live(self) -> jax.Array:
        """bool `[B]`, rows that may go on."""
        return self.rows.running

    def by_prompt(self, values: jax.Array) -> jax.Array:
        """`[B, ...]` as `[P, H, ...]`."""
        return values.reshape(-1, self.hypotheses, *values.shape[1:])

    @property
    def here(self) -> jax.Array:
        """The hypothesis that each row is, int32 `[P, H]`."""
        every = jnp.arange(self.hypotheses, dtype=jnp.int32)
        return jnp.broadcast_to(every, (len(self.ready) // self.hypotheses, self.hypotheses))

    @property
    def prompt_keys(self) -> jax.Array:
        """A key a prompt `[P]`."""
        return self.keys[:: self.hypotheses]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Decision:
    """What a rule makes of a boundary.

    Attributes:
      source: int32 `[P, H]`, the hypothesis whose past each takes.
      log_weights: float32 `[P, H]`, after that.
      parked: bool `[P, H]`, those that wait through the next segment too.
      ended: bool `[P, H]`, those that are given up, where they are.
      most: int32 `[P, H]`, tokens of the next segment at most, `UNBOUNDED` for what the rule of segments says.
      own: what the rule keeps of each row's past `[B, ...]`, before rows move; it moves with them.
    """

    source: jax.Array
    log_weights: jax.Array
    parked: jax.Array
    ended: jax.Array
    most: jax.Array
    own: Any

    @classmethod
    def stay(cls, boundary: Boundary) -> "Decision":
        """Everybody goes on as before."""
        none = jnp.zeros(boundary.here.shape, bool)
        weights = boundary.by_prompt(boundary.pool.log_weights)
        most = jnp.full(none.shape, UNBOUNDED, jnp.int32)
        return cls(boundary.here, weights, none, none, most, boundary.pool.own)


class Scorer(Part, abc.ABC):
    """A score of each row's past, read where segments end: a process reward, a potential, a value.

    Attributes:
      forwards: of the target, that reading the scores costs; static.
    """

    forwards: int = 0

    @abc.abstractmethod
    def score(
        self, params: Params, model: Model, target: Params, cache: Any, rows: Rows, pool: Pool
    ) -> jax.Array:
        """The scores, float32 `[B]`; of rows that have ended too.

        Args:
          params: the part's own.
          model: the target.
          target: its parameters.
          cache: its cache, which holds all tokens of each row but the last.
          rows: committed tokens.
          pool: of all rows.
        """


class Rule(Part, abc.ABC):
    """What becomes of the hypotheses of a prompt where their segments end."""

    def start(self, pool: Pool, rows: Rows) -> Pool:
        """The pool of rows that hold their prompts, as the first segment begins: `pool`, unless a subclass says more.

        A rule may say which rows are `parked`, how many tokens a segment has at `most`, and what is its `own`.
        """
        return pool

    def asks(self, settings: Settings, pool: Pool) -> Settings:
        """The settings under which the decoder takes its next step: the request's, unless a subclass says more."""
        return settings

    @abc.abstractmethod
    def decide(self, params: Params, boundary: Boundary) -> Decision:
        """The rows' pasts, weights and leave to go on.

        Args:
          params: the part's own.
          boundary: how all rows stand.
        """


@dataclasses.dataclass(frozen=True)
class Independent(Rule):
    """Everybody goes on: hypotheses that take no notice of one another."""

    def decide(self, params: Params, boundary: Boundary) -> Decision:
        """See `Rule`."""
        return Decision.stay(boundary)


class Ending(Part, abc.ABC):
    """Which hypotheses are given up because of what others of their prompt have reached."""

    @abc.abstractmethod
    def over(self, params: Params, rows: Rows, pool: Pool) -> jax.Array:
        """Rows that are given up after a step, bool `[B]`; of rows that have ended it is not looked at."""
