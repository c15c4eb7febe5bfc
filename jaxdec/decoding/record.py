"""What a step did, and the record of a run.

Legend: B rows, L buffer width, W tokens that a step commits at most.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.decoding.moving import take_rows
from jaxdec.decoding.rows import Rows, place_chunk
from jaxdec.sampling import TopTokens


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Info:
    """What one step did.

    Attributes:
      tokens: int32 `[B, W]`, the chunk; its first `count` tokens were committed.
      start: int32 `[B]`, the position of the chunk's first token.
      count: int32 `[B]`.
      log_probs: float32 `[B, W]`, of each token under the warped law that it was drawn from.
      raw_log_probs: float32 `[B, W]`, under the target's own law, `log softmax(logits)`.
      drafted: bool `[B, W]`, whether the token was proposed by a drafter.
      proposed: int32 `[B]`, draft tokens that were verified.
      accepted: int32 `[B]`, draft tokens that were accepted (before stops cut them).
      target_forwards: int32 `[B]`.
      target_rows: int32 `[B]`, positions that these computed (`Model.scored_rows`): tokens and queries.
      draft_forwards: int32 `[B]`.
      status: int32 `[B]`, after the step.
      steps: int32 `[B, W]`, the step of the row in which each token was chosen, from 0 on.
      top: the most probable tokens `[B, W, K]` of the target's own law of each token; None where none are asked for.
      source: int32 `[B]`, the row whose past each row continues in this step; B + b for what lay in place b of the
        shelf before it. None for rows that stay where they are.
      shelf: what became of the shelf: an info of its own, with a `source` as that of the rows; None without a shelf.
      own: what the algorithm says beside this, a pytree of arrays a row; the loop does not read it.
    """

    tokens: jax.Array
    start: jax.Array
    count: jax.Array
    log_probs: jax.Array
    raw_log_probs: jax.Array
    drafted: jax.Array
    proposed: jax.Array
    accepted: jax.Array
    target_forwards: jax.Array
    target_rows: jax.Array
    draft_forwards: jax.Array
    status: jax.Array
    steps: jax.Array
    top: TopTokens | None = None
    source: jax.Array | None = None
    shelf: "Info | None" = None
    own: Any = None

    @classmethod
    def undrafted(cls, tokens: jax.Array, count: jax.Array, **said: Any) -> "Info":
        """What a step did that tests no drafts: zeros for all that is counted of them.

        Args:
          tokens: int32 `[B, W]`.
          count: int32 `[B]`.
          **said: the other attributes.
        """
        none = jnp.zeros_like(count)
        return cls(
            tokens=tokens,
            count=count,
            drafted=jnp.zeros(tokens.shape, bool),
            proposed=none,
            accepted=none,
            draft_forwards=none,
            **said,
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Stats:
    """Counts a row, int32 `[B]` each.

    Attributes:
      target_forwards: forwards of the target that the row took part in (its prompt's not counted).
      target_rows: positions that these computed for the row: tokens and queries.
      draft_forwards: forwards of the draft model.
      proposed: draft tokens verified.
      accepted: draft tokens accepted.
    """

    target_forwards: jax.Array
    target_rows: jax.Array
    draft_forwards: jax.Array
    proposed: jax.Array
    accepted: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Record:
    """The infos of a run, folded into one buffer that is aligned with the rows' tokens.

    Attributes:
      columns: float32 `[B, L, 4 + 2 K]`: log-probability, raw log-probability, 1 for drafted tokens, 1 plus the step
        that chose the token; the K most probable tokens, if they are asked for, and their log-probabilities. One array,
        so that a step writes it once; ids below 2^24 are exact in it.
      stats: counts a row.
      shelf: the same of the B hypotheses that were set aside; None where the decoder sets none aside.
    """

    columns: jax.Array
    stats: Stats
    shelf: "Record | None" = None

    @property
    def top(self) -> TopTokens | None:
        """The most probable tokens of the target's own law at each place `[B, L, K]`, zeros for the prompt; or None."""
        tokens, log_probs = jnp.split(self.columns[:, :, 4:], 2, axis=-1)
        return TopTokens(tokens.astype(jnp.int32), log_probs) if tokens.shape[-1] else None

    @property
    def log_probs(self) -> jax.Array:
        """float32 `[B, L]`, under the warped law; zero for the prompt."""
        return self.columns[:, :, 0]

    @property
    def raw_log_probs(self) -> jax.Array:
        """float32 `[B, L]`, under the target's own law; zero for the prompt."""
        return self.columns[:, :, 1]

    @property
    def drafted(self) -> jax.Array:
        """bool `[B, L]`, whether a drafter proposed the token."""
        return self.columns[:, :, 2] > 0

    @property
    def steps(self) -> jax.Array:
        """int32 `[B, L]`, the step of the row that chose each token; -1 for the prompt."""
        return self.columns[:, :, 3].astype(jnp.int32) - 1

    @classmethod
    def start(cls, rows: Rows, shelf: Rows | None = None) -> "Record":
        """An empty record for some rows, and for a shelf if the decoder's state has one."""
        counts = (jnp.zeros(rows.length.shape, jnp.int32) for _ in dataclasses.fields(Stats))
        width = 4 + 2 * rows.top_log_probs
        columns = jnp.zeros((*rows.tokens.shape, width), jnp.float32)
        return cls(columns, Stats(*counts), None if shelf is None else cls.start(shelf))

    def add(self, info: Info) -> "Record":
        """Takes in what a step did, after the rows were moved as it says."""
        if info.shelf is None or self.shelf is None:
            return self._moved(info.source)._placed(info)
        join = lambda x, y: jnp.concatenate([x, y])
        rows = dataclasses.replace(self, shelf=None)
        both = jax.tree.map(join, rows, self.shelf)
        shelf = both._moved(info.shelf.source)._placed(info.shelf)
        return dataclasses.replace(both._moved(info.source)._placed(info), shelf=shelf)

    def _moved(self, source: jax.Array | None) -> "Record":
        """The record of rows that took the past of others."""
        if source is None:
            return self
        columns, stats = take_rows((self.columns, self.stats), source)
        return dataclasses.replace(self, columns=columns, stats=stats)

    def _placed(self, info: Info) -> "Record":
        """The record with the chunk of a step."""
        drafted = info.drafted.astype(jnp.float32)
        steps = (info.steps + 1).astype(jnp.float32)
        columns = jnp.stack([info.log_probs, info.raw_log_probs, drafted, steps], axis=-1)
        if info.top is not None:
            top = info.top.tokens.astype(jnp.float32), info.top.log_probs
            columns = jnp.concatenate([columns, *top], axis=-1)
        added = {
            field.name: getattr(self.stats, field.name) + getattr(info, field.name)
            for field in dataclasses.fields(Stats)
        }
        placed = place_chunk(self.columns, columns, info.start, info.count)
        return dataclasses.replace(self, columns=placed, stats=Stats(**added))
