"""Why rows end: statuses, and the tokens that end a row.

Legend: B rows, W tokens of a chunk, S stop sequences, K their longest length; N states of stop strings, V vocabulary.
"""

import dataclasses
import enum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.sampling import is_traced, shown


class Status(enum.IntEnum):
    """Why a row ended, or that it has not."""

    RUNNING = 0
    EOS = 1
    """An end-of-sequence token was emitted (and kept)."""
    STOP_SEQUENCE = 2
    """A stop sequence or a stop string was completed (and kept, to the end of its last token)."""
    LENGTH = 3
    """`max_new_tokens` were emitted."""
    CACHE_FULL = 4
    """The next step would not fit into the row's buffers."""
    NONFINITE = 5
    """The model returned logits that define no law; nothing was emitted from them."""
    STALLED = 6
    """The row took more steps than its decoder ever needs for as many tokens."""
    CANCELLED = 7
    """Whoever asked took the request back; what was generated until then stands."""
    DEADLINE = 8
    """The request's deadline passed; what was generated until then stands."""
    PRUNED = 9
    """Other hypotheses of the prompt made the row needless."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Stops:
    """Token sequences and strings that end a row.

    Attributes:
      eos: int32 `[E]`, tokens that end a row by themselves.
      sequences: int32 `[S, K]`, right-aligned: the last token of each is in the last column.
      lengths: int32 `[S]`, tokens in each sequence.
      strings: unsigned `[N, V]`, the automaton of the stop strings over tokens: from a state and a token to the state
        after it, 0 once a string is complete. None if there are none. A row's state is `Rows.stop_state`.
    """

    eos: Any
    sequences: Any
    lengths: Any
    strings: Any = None

    @classmethod
    def create(
        cls,
        eos: Any = (),
        sequences: Any = (),
        vocab_size: int | None = None,
        strings: Any = None,
    ) -> "Stops":
        """From integers: `eos`, tokens of which each ends a row by itself, and `sequences` of tokens.

        `strings` is a table, of `jaxdec.text.stop_table`.

        Raises:
          ValueError: if these are not tokens of a vocabulary of `vocab_size`, or a sequence is empty.
        """
        eos = _tokens("eos", eos, vocab_size, alone=True)
        if is_traced(sequences) or isinstance(sequences, str | bytes):
            got = "text" if isinstance(sequences, str | bytes) else "a traced value"
            raise ValueError(f"stop must be sequences of tokens, such as [[10, 10]], got {got}")
        try:
            sequences = list(sequences)
        except TypeError as error:
            raise ValueError(f"stop must be sequences of tokens, got {shown(sequences)}") from error
        sequences = [_tokens(f"stop sequence {i}", s, vocab_size) for i, s in enumerate(sequences)]
        for i, sequence in enumerate(sequences):
            if not len(sequence):
                raise ValueError(f"stop sequence {i} is empty")
        width = max(map(len, sequences), default=0)
        table = np.zeros((len(sequences), width), np.int32)
        for row, sequence in zip(table, sequences, strict=True):
            row[width - len(sequence) :] = sequence
        return cls(
            eos=eos,
            sequences=table,
            lengths=np.asarray([len(s) for s in sequences], np.int32),
            strings=strings,
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
        return _completed(self.sequences, self.lengths, before, fresh, chunk)

    def follow(self, state: jax.Array, chunk: jax.Array) -> jax.Array:
        """The states of the stop strings through a chunk.

        Args:
          state: int32 `[B]`, before the chunk.
          chunk: int32 `[B, W]`.

        Returns:
          int32 `[B, W + 1]`, before the chunk and after each of its tokens; 0 where a string is complete.
        """

        def read(state, tokens):
            state = self.strings[state, tokens].astype(jnp.int32)
            return state, state

        _, states = jax.lax.scan(read, state, chunk.T)
        return jnp.concatenate([state[None], states]).T


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RowStops:
    """Tokens and token sequences that end a row, for each row its own; beside those of `Stops`, which all rows share.

    Attributes:
      eos: int32 `[B, E]`, tokens that end the row by themselves, -1 behind them.
      sequences: int32 `[B, S, K]`, right-aligned.
      lengths: int32 `[B, S]`, tokens in each sequence; 0 where there is none.
    """

    eos: Any
    sequences: Any
    lengths: Any

    @classmethod
    def create(cls, stops: Stops, room: tuple[int, int, int]) -> "RowStops":
        """Those of one row `[1, ...]`, out of shared ones.

        Args:
          stops: what ends the row.
          room: E, S and K.

        Raises:
          ValueError: if there is no room for so many tokens, so many sequences or sequences as long.
        """
        ends, sequences = len(stops.eos), len(stops.sequences)
        longest = max(np.asarray(stops.lengths).tolist(), default=0)
        for what, size, most in (
            ("eos tokens", ends, room[0]),
            ("stop sequences", sequences, room[1]),
            ("tokens of a stop sequence", longest, room[2]),
        ):
            if size > most:
                raise ValueError(f"a request has {size} {what}; there is room for {most}")
        table = np.zeros((1, *room[1:]), np.int32)
        if longest:
            table[0, :sequences, room[2] - longest :] = stops.sequences
        lengths = np.zeros((1, room[1]), np.int32)
        lengths[0, :sequences] = stops.lengths
        eos = np.full((1, room[0]), -1, np.int32)
        eos[0, :ends] = stops.eos
        return cls(eos, table, lengths)

    def ends(self, tokens: jax.Array) -> jax.Array:
        """Which of `tokens [B, W]` end their row by themselves, bool."""
        return (tokens[:, :, None] == self.eos[:, None]).any(-1)

    def completed(self, before: jax.Array, fresh: jax.Array, chunk: jax.Array) -> jax.Array:
        """As `Stops.completed`."""
        return _completed(self.sequences, self.lengths, before, fresh, chunk)


def _completed(
    sequences: jax.Array, lengths: jax.Array, before: jax.Array, fresh: jax.Array, chunk: jax.Array
) -> jax.Array:
    """As `Stops.completed`, of sequences `[S, K]` or, for each row its own, `[B, S, K]`."""
    stops, width = sequences.shape[-2:]
    if not stops or not width:
        return jnp.zeros(chunk.shape, bool)
    before = before[:, before.shape[1] - (width - 1) :]
    joined = jnp.concatenate([before, chunk], axis=1)
    ends = jnp.arange(chunk.shape[1])
    windows = joined[:, ends[:, None] + jnp.arange(width)]  # [B, W, K]
    sequences, lengths = (x if x.ndim > n else x[None] for x, n in ((sequences, 2), (lengths, 1)))
    unused = jnp.arange(width) < (width - lengths)[..., None]  # [B or 1, S, K]
    equal = (windows[:, :, None] == sequences[:, None]) | unused[:, None]
    lengths = lengths[:, None]  # [B or 1, 1, S]
    inside = (lengths > 0) & (lengths <= fresh[:, None, None] + ends[:, None] + 1)
    return (equal.all(-1) & inside).any(-1)


def _tokens(name: str, value: Any, vocab_size: int | None, alone: bool = False) -> np.ndarray:
    """Tokens of one sequence, int32 `[K]`; `alone` for those that may also be given as one token."""
    what = "tokens, such as (0,)" if alone else "a sequence of tokens, such as [10, 10]"
    if is_traced(value):
        raise ValueError(f"{name} must be {what}, got a traced value")
    try:
        tokens = np.asarray(value)
    except (ValueError, TypeError):  # a ragged list, a key
        tokens = np.asarray(None)
    if isinstance(value, str | bytes) or not (
        np.issubdtype(tokens.dtype, np.integer) or tokens.shape == (0,)
    ):
        raise ValueError(f"{name} must be {what}, got {shown(value)}")
    if tokens.ndim != 1 and not (alone and tokens.ndim == 0):
        got = shown(value) if not tokens.ndim else f"shape {list(tokens.shape)}"
        raise ValueError(f"{name} must be {what}, got {got}")
    for token in tokens.reshape(-1):
        if vocab_size is not None and not 0 <= token < vocab_size:
            raise ValueError(f"{name} holds {token}, outside the vocabulary of {vocab_size}")
    return tokens.reshape(-1).astype(np.int32)
