"""Prompt lookup: drafting from the row's own text, with no model."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.model import Params
from jaxdec.speculative.contract import Context
from jaxdec.speculative.drafters.causal import CausalDrafter
from jaxdec.speculative.tree import DraftTree, check_sizes


def suffix_matches(
    tokens: jax.Array, length: jax.Array, max_ngram: int, within: jax.Array | None = None
) -> jax.Array:
    """How much of the row's end each place repeats: the longest n such that the n tokens up to it are the row's last n.

    Args:
      tokens: int32 `[L]`, one row.
      length: int32 scalar.
      max_ngram: the longest n tried.
      within: int32 `[M]`, the text whose places are asked for; the row itself if not given.

    Returns:
      int32 `[M]`, 0 where nothing matches.
    """
    within = tokens if within is None else within
    ends = jnp.arange(within.shape[0])
    agree = jnp.ones(within.shape, bool)
    longest = jnp.zeros(within.shape, jnp.int32)
    for n in range(1, max_ngram + 1):
        # The n-th token from the end, of the window and of the row.
        shifted = jnp.roll(within, n - 1)
        agree &= (shifted == tokens[jnp.maximum(length - n, 0)]) & (ends >= n - 1) & (length >= n)
        longest = jnp.where(agree, n, longest)
    return longest


def find_continuations(
    tokens: jax.Array, length: jax.Array, max_ngram: int, min_ngram: int = 1, count: int = 1
) -> tuple[jax.Array, jax.Array]:
    """Where the row's last tokens occurred before, longest matches first, then the most recent.

    A window `[i, i + n)` matches if it equals the last n tokens of the row and ends inside the text, `i + n < length`
    (so that a continuation exists, and the row's end does not match itself).

    Args:
      tokens: int32 `[L]`, one row.
      length: int32 scalar.
      max_ngram: the longest n tried.
      min_ngram: the shortest n tried.
      count: G, matches wanted.

    Returns:
      `(starts, found)`, `[G]` each: the positions where the continuations begin, and which of them exist.
    """
    size = tokens.shape[0]
    ends = jnp.arange(size)
    longest = suffix_matches(tokens, length, max_ngram)
    allowed = (ends < length - 1) & (longest >= min_ngram)
    scores = jnp.where(allowed, longest * size + ends, -1)  # recency breaks ties
    best, at = jax.lax.top_k(scores, min(count, size))
    missing = (0, count - len(at))
    return jnp.pad(at + 1, missing), jnp.pad(best >= 0, missing)


def read_on(tokens: jax.Array, length: jax.Array, starts: jax.Array, count: int) -> jax.Array:
    """What follows places in a text; past its end, what was just read follows again.

    The d-th token from place s on is `x(s + d mod (length - s))`: a text that repeats itself at distance p, matched p
    tokens before its end, is taken to go on so.

    Args:
      tokens: int32 `[L]`, one row.
      length: int32 scalar.
      starts: int32 `[G]`, below `length` for what is wanted.
      count: D.

    Returns:
      int32 `[G, D]`.
    """
    period = jnp.maximum(length - starts, 1)[:, None]
    places = starts[:, None] + jnp.arange(count, dtype=starts.dtype) % period
    return tokens.at[places].get(mode="fill", fill_value=0)


@dataclasses.dataclass(frozen=True)
class PromptLookup(CausalDrafter):
    """Proposes what followed the latest occurrence of the row's last tokens; see `prompt_lookup`."""

    depth: int
    max_ngram: int
    min_ngram: int

    def propose(self, params: Params, state: None, context: Context) -> tuple[DraftTree, None]:
        """Looks up each row; a row without a match proposes nothing."""
        rows = context.rows

        def draft(tokens, length):
            starts, found = find_continuations(tokens, length, self.max_ngram, self.min_ngram)
            chain = read_on(tokens, length, starts, self.depth)[0]
            return chain, jnp.broadcast_to(found, chain.shape)

        tokens, mask = jax.vmap(draft)(rows.tokens, rows.length)
        return DraftTree.chain(tokens, mask=mask), None


@typed
def prompt_lookup(*, length: int = 8, max_ngram: int = 5, min_ngram: int = 1) -> PromptLookup:
    """Drafts by n-gram lookup in the prompt and the text generated so far, in-graph.

        x_j = text[i + j],   j = 1, ..., `length`,   i < t the last place with text(i - n, i] = text(t - n, t]

    where t is the place of the last token, for the largest n from `min_ngram` to `max_ngram` that has such a place.
    Past the end of the text the drafts are read again, `text[t + j] = x_j`: a period goes on for as long as drafts do.

    Args:
      length: drafts a step at most, at least 1.
      max_ngram: the longest suffix that is looked up.
      min_ngram: the shortest suffix that counts as a match.

    Raises:
      ValueError: if `length < 1` or not `1 <= min_ngram <= max_ngram`.

    Exactness: that of the verifier.
    Source: prompt lookup decoding (Saxena, 2023; code release) and the input-guided aggressive decoding of 2205.10350.
    The most recent of the longest matches is taken; reading past the end is ours.
    """
    check_sizes(length=length)
    check_ngrams(max_ngram, min_ngram)
    return PromptLookup(length, max_ngram, min_ngram)


def check_ngrams(max_ngram: int, min_ngram: int) -> None:
    """Raises `ValueError` unless `1 <= min_ngram <= max_ngram`."""
    if not 1 <= min_ngram <= max_ngram:
        raise ValueError(f"need 1 <= min_ngram <= max_ngram, got {min_ngram} and {max_ngram}")
