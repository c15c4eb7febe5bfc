"""Where a segment ends: after a number of tokens, or with a delimiter.

Legend: B rows, E delimiters of one token, S of several, K tokens of these at most.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.arguments import typed
from jaxdec.decoding import Rows, RowStops, Settings, Status, Stops, integers
from jaxdec.search.contract import Pool


@dataclasses.dataclass(frozen=True)
class Segment:
    """Ends with the first of some delimiters, or after so many tokens.

    A step's tokens are cut at the end of a segment by what cuts them at the end of a row, so that a decoder which
    commits several tokens at once stops where plain decoding does.

    Attributes:
      most: tokens at most; None for as many as the row has.
      delimiters: sequences of tokens, the last of which belongs to the segment.
    """

    most: int | None = None
    delimiters: tuple[tuple[int, ...], ...] = ()

    def check(self, vocab_size: int) -> None:
        """Raises `ValueError` for delimiters outside a vocabulary."""
        Stops.create((), self.delimiters, vocab_size)

    def limited(self, settings: Settings, rows: Rows, pool: Pool) -> Settings:
        """Settings under which a row ends where its segment does."""
        most = pool.most if self.most is None else jnp.minimum(pool.most, self.most)
        limit = jnp.minimum(settings.max_new_tokens, pool.start - rows.prompt_length + most)
        own = settings.row_stops
        if self.delimiters:
            own = _joined(own, self.delimiters, len(rows.length))
        return dataclasses.replace(settings, max_new_tokens=limit, row_stops=own)


def _joined(own: RowStops | None, delimiters: tuple[tuple[int, ...], ...], batch: int) -> RowStops:
    """The delimiters beside what ends each row of its own."""
    ones = [d[0] for d in delimiters if len(d) == 1]
    many = [d for d in delimiters if len(d) > 1]
    eos = jnp.broadcast_to(jnp.asarray(ones, jnp.int32), (batch, len(ones)))
    longest = max(map(len, many), default=0)
    table = np.zeros((len(many), longest), np.int32)
    for row, sequence in zip(table, many, strict=True):
        row[longest - len(sequence) :] = sequence
    sequences = jnp.broadcast_to(jnp.asarray(table), (batch, *table.shape))
    sizes = jnp.asarray([len(d) for d in many], jnp.int32)
    lengths = jnp.broadcast_to(sizes, (batch, len(many)))
    if own is None:
        return RowStops(eos, sequences, lengths)
    widest = max(longest, own.sequences.shape[2])
    wide = lambda x: jnp.pad(x, ((0, 0), (0, 0), (widest - x.shape[2], 0)))
    return RowStops(
        jnp.concatenate([own.eos, eos], axis=1),
        jnp.concatenate([wide(own.sequences), wide(sequences)], axis=1),
        jnp.concatenate([own.lengths, lengths], axis=1),
    )


def own_status(settings: Settings, rows: Rows) -> jax.Array:
    """Why the request itself ends each row with its last token, a `Status` int32 `[B]`; `RUNNING` if it does not."""
    last = rows.pending[:, None]
    tail = max(settings.longest_stop - 1, 0)
    before = rows.window(rows.length - 1 - tail, tail)
    generated = rows.length - rows.prompt_length
    stopped = settings.completed(before, generated - 1, last)[:, 0]
    if rows.stop_state is not None:
        stopped |= rows.stop_state == 0
    return jnp.select(
        [settings.ends(last)[:, 0], stopped, generated >= settings.max_new_tokens],
        [jnp.int32(status) for status in (Status.EOS, Status.STOP_SEQUENCE, Status.LENGTH)],
        jnp.int32(Status.RUNNING),
    )


def whole() -> Segment:
    """One segment, as long as the row."""
    return Segment()


def every_token() -> Segment:
    """Segments of one token."""
    return Segment(1)


@typed
def of_length(tokens: int) -> Segment:
    """Segments of so many tokens.

    Raises:
      ValueError: for less than 1.
    """
    if tokens < 1:
        raise ValueError(f"tokens must be at least 1, got {tokens}")
    return Segment(tokens)


@typed
def until(delimiters: Sequence[int | Sequence[int]], most: int | None = None) -> Segment:
    """Segments that end with a delimiter, such as a line's end.

    Args:
      delimiters: tokens, or sequences of tokens, that end a segment and belong to it.
      most: tokens at most; None for as many as the row has.

    Raises:
      ValueError: for no delimiter, an empty one, or `most` below 1.
    """
    found = []
    for one in delimiters:
        values = one if isinstance(one, list | tuple | np.ndarray) else [one]
        found.append(tuple(integers("a delimiter", values, [(None,)], low=0).tolist()))
    if not found or not all(found):
        raise ValueError(f"delimiters must be tokens, at least one, got {delimiters}")
    if most is not None and most < 1:
        raise ValueError(f"most must be at least 1, got {most}")
    return Segment(most, tuple(found))
