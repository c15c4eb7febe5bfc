"""Prompt lookup: drafting from the row's own text, with no model."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.decoding import Request
from jaxdec.model import Params
from jaxdec.speculative.parts import Context, Drafter
from jaxdec.speculative.tree import DraftTree


def find_continuation(
    tokens: jax.Array, length: jax.Array, max_ngram: int, min_ngram: int = 1
) -> tuple[jax.Array, jax.Array]:
    """Where the row's last tokens occurred before, longest match first, then the most recent.

    A window `[i, i + n)` matches if it equals the last n tokens of the row and ends inside the text, `i + n < length`
    (so that a continuation exists, and the row's end does not match itself).

    Args:
      tokens: int32 `[L]`, one row.
      length: int32 scalar.
      max_ngram: the longest n tried.
      min_ngram: the shortest n tried.

    Returns:
      `(start, found)`: the position where the continuation begins, and whether there is one.
    """
    size = tokens.shape[0]
    ends = jnp.arange(size)  # a candidate's last token
    agree = jnp.ones((size,), bool)
    longest = jnp.zeros((size,), jnp.int32)
    for n in range(1, max_ngram + 1):
        # The n-th token from the end, of the candidate and of the row.
        shifted = jnp.roll(tokens, n - 1)
        agree &= (shifted == tokens[jnp.maximum(length - n, 0)]) & (ends >= n - 1) & (length >= n)
        longest = jnp.where(agree, n, longest)
    allowed = (ends < length - 1) & (longest >= min_ngram)
    score = jnp.where(allowed, longest * size + ends, -1)  # recency breaks ties
    best = jnp.argmax(score)
    return best + 1, score[best] >= 0


@dataclasses.dataclass(frozen=True)
class PromptLookup(Drafter):
    """Proposes what followed the latest occurrence of the row's last tokens; see `prompt_lookup`."""

    depth: int
    max_ngram: int
    min_ngram: int

    def check(self, request: Request, params: Params, vocab_size: int) -> None:
        """Raises `ValueError` for a request with an order: what is adjacent in rank need not be so in the text."""
        if request.order is not None:
            raise ValueError("prompt lookup drafts left to right, not in an order of the request")

    def propose(self, params: Params, state: None, context: Context) -> tuple[DraftTree, None]:
        """Looks up each row; a row without a match proposes nothing."""
        rows = context.rows
        find = lambda tokens, length: find_continuation(
            tokens, length, self.max_ngram, self.min_ngram
        )
        start, found = jax.vmap(find)(rows.tokens, rows.length)
        tokens = rows.window(start, self.depth)
        inside = start[:, None] + jnp.arange(self.depth) < rows.length[:, None]
        return DraftTree.chain(tokens, mask=inside & found[:, None]), None


def prompt_lookup(*, length: int = 8, max_ngram: int = 5, min_ngram: int = 1) -> PromptLookup:
    """Drafts by n-gram lookup in the prompt and the text generated so far, in-graph.

    Args:
      length: drafts a step at most, at least 1.
      max_ngram: the longest suffix that is looked up.
      min_ngram: the shortest suffix that counts as a match.

    Raises:
      ValueError: if `length < 1` or not `1 <= min_ngram <= max_ngram`.

    Source: prompt lookup decoding (Saxena, 2023; code release) and the input-guided aggressive decoding of 2205.10350.
    The most recent of the longest matches is taken, and continuations shorter than `length` are used too.
    """
    if length < 1:
        raise ValueError(f"draft length must be at least 1, got {length}")
    if not 1 <= min_ngram <= max_ngram:
        raise ValueError(f"need 1 <= min_ngram <= max_ngram, got {min_ngram} and {max_ngram}")
    return PromptLookup(length, max_ngram, min_ngram)
