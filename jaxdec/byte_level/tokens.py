"""What each token of a vocabulary spells, and which tokens may stand side by side in an encoding.

Legend: V vocabulary, L bytes of the longest token.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.byte_level.merges import Merges

END = 256
"""The symbol after the bytes: the end of the text."""
SYMBOLS = 257
MOST_PAIRED = 4096
"""Tokens whose pairs are tried one by one, at most."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ByteTokens:
    """Tables of a tokenizer; a decoder reads them as parameters of its own.

    Attributes:
      table: int32 `[V, L]`, the bytes of each token; -1 behind them.
      lengths: int32 `[V]`, how many; 0 for tokens that are no text, which never occur.
      pairs: uint8 `[V, V / 8]`, rounded up, one bit a pair: whether `[u, v]` is how its own bytes are encoded; None
        where that is not known.
      merges: of which pairs follow, where there is no table of them; None to take all for granted.
    """

    table: Any
    lengths: Any
    pairs: Any = None
    merges: Merges | None = None

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.table.shape[0]

    @property
    def longest(self) -> int:
        """L."""
        return self.table.shape[1]

    def after(self, tokens: jax.Array) -> jax.Array:
        """Which tokens may follow `tokens [B]`, bool `[B, V]`."""
        text = jnp.asarray(self.lengths) > 0
        if self.merges is not None:
            return self.merges.apart(tokens) & text
        if self.pairs is None:
            return jnp.broadcast_to(text, (tokens.shape[0], self.vocab_size))
        packed = jnp.asarray(self.pairs)[tokens]
        bits = jnp.unpackbits(packed, axis=-1, count=self.vocab_size, bitorder="little")
        return bits.astype(bool) & text


def byte_tokens(
    tokenizer: Any = None,
    *,
    pieces: Sequence[bytes] | None = None,
    encode: Callable[[bytes], Sequence[int]] | None = None,
    pairs: np.ndarray | bool = True,
    merges: Sequence[Sequence[int]] | None = None,
) -> ByteTokens:
    """Tables of a tokenizer whose encodings are known by their pairs, as those of byte-pair encoding are.

      [u, v] may stand in an encoding  iff  encode(bytes of u + bytes of v) = [u, v]

    For merges in a fixed order a string of tokens is the encoding of its bytes iff each pair in it is that of its own.

    Args:
      tokenizer: a `jaxdec.text.Tokenizer`, whose `pieces` and `to_ids` are taken; or give those two.
      pieces: the bytes of each token, V of them; none for tokens that are no text.
      encode: from bytes to tokens.
      pairs: True to try all pairs of at most 4,096 tokens, V^2 encodings; bool `[V, V]` to say which are their own;
        False to leave it open, see `byte_level`.
      merges: `(first, second, merged)` in their order, in place of pairs, for vocabularies of any size: which tokens
        may follow one is found while decoding. Every token must be the encoding of its own bytes; give no bytes
        (`b""`) to those that are not.

    Raises:
      ValueError: for no pieces, no encoder where one is needed, too many tokens to try, or a table of another shape.
    """
    if tokenizer is not None:
        pieces, encode = tokenizer.pieces(), tokenizer.to_ids
    if not pieces or not any(pieces):
        raise ValueError("pieces: got none, must be the bytes of each token")
    size, longest = len(pieces), max(map(len, pieces))
    table = np.full((size, longest), -1, np.int32)
    for token, piece in enumerate(pieces):
        table[token, : len(piece)] = list(piece)
    lengths = np.array([len(piece) for piece in pieces], np.int32)
    if merges is not None:
        return ByteTokens(table, lengths, merges=Merges.of(size, merges))
    if pairs is False:
        return ByteTokens(table, lengths)
    if pairs is True:
        if encode is None:
            raise ValueError(
                "encode: got none, must be a function from bytes to tokens, to try pairs"
            )
        if size > MOST_PAIRED:
            raise ValueError(
                f"pairs: got {size} tokens to try, must be at most {MOST_PAIRED}; give merges, or a table [V, V]"
            )
        pairs = _tried(pieces, encode)
    pairs = np.asarray(pairs)
    if pairs.shape != (size, size) or pairs.dtype != bool:
        raise ValueError(
            f"pairs: got {pairs.dtype} of shape {pairs.shape}, must be bool ({size}, {size})"
        )
    return ByteTokens(table, lengths, np.packbits(pairs, axis=-1, bitorder="little"))


def _tried(pieces: Sequence[bytes], encode: Callable[[bytes], Sequence[int]]) -> np.ndarray:
    """Which pairs are the encodings of their bytes, bool `[V, V]`."""
    found = np.zeros((len(pieces), len(pieces)), bool)
    text = [token for token, piece in enumerate(pieces) if piece]
    for u in text:
        for v in text:
            found[u, v] = list(map(int, encode(pieces[u] + pieces[v]))) == [u, v]
    return found
