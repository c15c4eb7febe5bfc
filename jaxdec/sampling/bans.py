"""Which tokens the text itself rules out: repeated n-grams, bad words, ends that come too early, all but a given token.

All are functions of the text before each law (`TextBefore`), so that they hold inside steps of several tokens: the law
of a node of a draft tree sees the drafts on its own path.

Legend: B rows, L buffer width, S words, K tokens of a word at most, E ends, F given tokens, V vocabulary.
"""

import jax
import jax.numpy as jnp

from jaxdec.sampling.text_before import NONE, TextBefore


def repeated(text: TextBefore, size: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The tokens that would complete an n-gram which the text holds already.

      banned(v)  iff  x_{i-n+1}, ..., x_{i-1} = the last n - 1 tokens, and x_i = v, for some i

    Windows are compared a token at a time, as many times as the largest n of the batch asks, and no more than the
    text has: any n is one program, and the work is O(min(n, L) L) a law. The prompt counts.

    Args:
      text: before each law.
      size: int32 `[B]`, n; 0 bans nothing.

    Returns:
      Tokens int32 and which of them are banned bool, `[B, ..., M]` both; see `chosen`.
    """
    ndim = text.depth.ndim
    of_row = lambda x: x.reshape(-1, *(1,) * ndim)  # to [B, ..., 1]
    size = of_row(size)
    places = jnp.arange(text.tokens.shape[1])
    drafts = jnp.arange(text.path.shape[-1])
    shape = (*text.depth.shape, len(places))
    candidates = jnp.broadcast_to(
        text.tokens.reshape(len(text.tokens), *(1,) * (ndim - 1), -1), shape
    )
    on = size > 0
    state = (
        jnp.broadcast_to(on & (places < of_row(text.length)), shape),
        jnp.broadcast_to(on & (drafts < text.depth[..., None]), (*text.depth.shape, len(drafts))),
    )

    def compare(distance, state):
        own, ahead = state
        wanted = text.back(distance[None])
        enough = distance >= size - 1
        before = jnp.roll(text.tokens, distance + 1, axis=1)
        before = before.reshape(len(before), *(1,) * (ndim - 1), -1)
        own &= ((before == wanted) & (places > distance)) | enough
        # A window that ends in a draft runs out of tokens before the text does: nothing equals nothing too late.
        ahead &= (text.back(drafts + 1 + distance) == wanted) | enough
        return own, ahead

    # No window is longer than the text, whatever n is: all that is left after as many tokens has repeated.
    most = jnp.minimum(jnp.max(size), len(places) + len(drafts) + 1)
    own, ahead = jax.lax.fori_loop(jnp.int32(0), most - 1, compare, state)
    if len(drafts):
        candidates = jnp.concatenate([candidates, text.back(drafts)], axis=-1)
        own = jnp.concatenate([own, ahead], axis=-1)
    return candidates, own


def bad_words(text: TextBefore, words: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The tokens that would complete a word, a sequence of tokens. The prompt counts.

      banned(v)  iff  v = w_m and w_1, ..., w_{m-1} are the last tokens, for some word w

    Args:
      text: before each law.
      words: int32 `[B, S, K]`, filled up with `NONE`; a word of `NONE` alone bans nothing.

    Returns:
      Tokens int32 and which of them are banned bool, `[B, ..., S]` both; see `chosen`.
    """
    batch, count, longest = words.shape
    middle = (1,) * (text.depth.ndim - 1)
    lengths = (words != NONE).sum(-1, dtype=jnp.int32)[..., None]
    # By their distance from the last token of the word, which has the distance 0.
    index = lengths - 1 - jnp.arange(longest)
    aligned = jnp.take_along_axis(words, jnp.maximum(index, 0), axis=-1)
    aligned = jnp.where(index >= 0, aligned, NONE).reshape(batch, *middle, count, longest)
    before = text.back(jnp.arange(longest - 1))[..., None, :]
    matches = (before == aligned[..., 1:]) | (aligned[..., 1:] == NONE)
    last = jnp.broadcast_to(aligned[..., 0], (*text.depth.shape, count))
    return last, matches.all(-1)


def early_ends(text: TextBefore, fewest: jax.Array, ends: jax.Array, vocab_size: int) -> jax.Array:
    """The ends, where fewer tokens were generated than there shall be.

    Args:
      text: before each law.
      fewest: int32 `[B]`.
      ends: int32 `[B, E]`.
      vocab_size: V.

    Returns:
      bool `[B, ..., V]`.
    """
    middle = (1,) * (text.depth.ndim - 1)
    table = (ends[..., None] == jnp.arange(vocab_size)).any(1)
    early = text.generated < fewest.reshape(-1, *middle)
    return early[..., None] & table.reshape(len(table), *middle, vocab_size)


def given(text: TextBefore, prefix: jax.Array) -> jax.Array:
    """The token that was given for the place of each law, int32 `[B, ...]`; `NONE` where there is none.

    Args:
      text: before each law.
      prefix: int32 `[B, F]`, by the number of tokens generated before; `NONE` for none.
    """
    place, size = text.generated, prefix.shape[1]
    flat = jnp.clip(place, 0, max(size - 1, 0)).reshape(len(prefix), -1)
    if not size:
        return jnp.full(place.shape, NONE, jnp.int32)
    found = jnp.take_along_axis(prefix, flat, axis=1).reshape(place.shape)
    return jnp.where((place >= 0) & (place < size), found, NONE)


def chosen(tokens: jax.Array, where: jax.Array, vocab_size: int) -> jax.Array:
    """Which tokens stand at places that were chosen: bool `[..., V]` for `tokens [..., M]` and `where [..., M]`."""
    *shape, size = where.shape
    flat = lambda x: x.reshape(-1, size)
    # Ids outside the vocabulary go to one index past the end, which the scatter drops.
    legal = flat(where & (tokens >= 0))
    at = jnp.where(legal, flat(tokens), vocab_size)
    rows = jnp.arange(len(at))[:, None]
    table = jnp.zeros((len(at), vocab_size), bool).at[rows, at].set(True, mode="drop")
    return table.reshape(*shape, vocab_size)
