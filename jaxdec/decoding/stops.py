"""Why rows end: statuses, and the tokens that end a row.

Legend: B rows, W tokens of a chunk, S stop sequences, K their longest length.
"""

import dataclasses
import enum

import jax
import jax.numpy as jnp
import numpy as np


class Status(enum.IntEnum):
    """Why a row ended, or that it has not."""

    RUNNING = 0
    EOS = 1
    """An end-of-sequence token was emitted (and kept)."""
    STOP_SEQUENCE = 2
    """A stop sequence was completed (and kept)."""
    LENGTH = 3
    """`max_new_tokens` were emitted."""
    CACHE_FULL = 4
    """The next step would not fit into the row's buffers."""
    NONFINITE = 5
    """The model returned logits that define no law; nothing was emitted from them."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Stops:
    """Token sequences that end a row.

    Attributes:
      eos: int32 `[E]`, tokens that end a row by themselves.
      sequences: int32 `[S, K]`, right-aligned: the last token of each is in the last column.
      lengths: int32 `[S]`, tokens in each sequence.
    """

    eos: jax.Array
    sequences: jax.Array
    lengths: jax.Array

    @classmethod
    def create(cls, eos=(), sequences=()) -> "Stops":
        """From Python integers: `eos` tokens, and `sequences` of tokens.

        Raises:
          ValueError: if a sequence is empty.
        """
        sequences = [[int(t) for t in np.asarray(s).reshape(-1)] for s in sequences]
        for i, sequence in enumerate(sequences):
            if not sequence:
                raise ValueError(f"stop sequence {i} is empty")
        width = max(map(len, sequences), default=0)
        table = np.zeros((len(sequences), width), np.int32)
        for row, sequence in zip(table, sequences, strict=True):
            row[width - len(sequence) :] = sequence
        return cls(
            eos=jnp.asarray(list(eos), jnp.int32).reshape(-1),
            sequences=jnp.asarray(table),
            lengths=jnp.asarray([len(s) for s in sequences], jnp.int32),
        )

    def completed(self, before: jax.Array, fresh: jax.Array, chunk: jax.Array) -> jax.Array:
        """Where a stop sequence is completed inside a chunk.

        Args:
          before: int32 `[B, K - 1]`, the tokens that precede the chunk.
          fresh: int32 `[B]`, how many of those were generated; a match never reaches into the prompt.
          chunk: int32 `[B, W]`.

        Returns:
          bool `[B, W]`: true at the last token of a match.
        """
        stops, width = self.sequences.shape
        if not stops:
            return jnp.zeros(chunk.shape, bool)
        joined = jnp.concatenate([before, chunk], axis=1)
        ends = jnp.arange(chunk.shape[1])
        windows = joined[:, ends[:, None] + jnp.arange(width)]  # [B, W, K]
        unused = jnp.arange(width) < (width - self.lengths)[:, None]  # [S, K]
        equal = (windows[:, :, None] == self.sequences) | unused
        inside = self.lengths <= fresh[:, None, None] + ends[:, None] + 1
        return (equal.all(-1) & inside).any(-1)
