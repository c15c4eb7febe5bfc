"""All encodings that cover a text of bytes, and what they say of its next byte.

Of a text x_1 ... x_n an encoding *covers* it if its bytes begin with the text, and those without its last token do
not. As beginnings of encodings are encodings, a cover is the encoding e_i of the first i bytes, for some i < n, and one
token v that reaches past byte n - 1:

    P(x_1 ... x_n) = sum_i P(e_i) sum_{v : bytes of v begin with x_{i+1} ... x_n} P(v | e_i)

Exactly one cover ends with byte n: that is e_n. So the covers are kept as one row for each i, of which those further
back than the longest token are gone, and a byte more costs one law, of the token after e_{n+1}.

Legend: B rows, V vocabulary, L bytes of the longest token, n bytes of a text.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.byte_level.tokens import END, SYMBOLS, ByteTokens


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Covers:
    """Covers of a text, for texts one byte longer: row i mod L has the tokens after e_i that go on after byte n.

    Attributes:
      mass: float `[B, L, V]`, log P(e_i, v) - log P(x_1 ... x_n); -inf for tokens that are ruled out.
      end: float `[B]`, the same of e_n and the end of the text.
      length: int32 `[B]`, n.
      log_prob: float `[B]`, log P(x_1 ... x_n).
    """

    mass: jax.Array
    end: jax.Array
    length: jax.Array
    log_prob: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Completed:
    """The cover that ends with the last byte: e_n, as a token after an earlier encoding.

    Attributes:
      row: int32 `[B]`, i mod L of that encoding e_i.
      token: int32 `[B]`.
      mass: float `[B]`, as in `Covers`; -inf where no token spells the text.
      count: int32 `[B]`, how many covers end there: 1 for a table of pairs that is right.
    """

    row: jax.Array
    token: jax.Array
    mass: jax.Array
    count: jax.Array


def begin(tokens: ByteTokens, law: jax.Array, end: jax.Array) -> Covers:
    """The covers of the empty text.

    Args:
      tokens: of the vocabulary.
      law: float `[B, V]`, log-probabilities of the first token, those of text and `end` alone (`restricted`).
      end: float `[B]`, log-probability of the end.
    """
    batch, size = law.shape
    mass = jnp.full((batch, tokens.longest, size), -jnp.inf, law.dtype).at[:, 0].set(law)
    return Covers(mass, end, jnp.zeros((batch,), jnp.int32), jnp.zeros((batch,), law.dtype))


def next_law(covers: Covers, tokens: ByteTokens) -> jax.Array:
    """The law of the next byte: log-probabilities float `[B, 257]`, the end of the text last.

    NaN throughout for a text that cannot be spelled.
    """
    bytes_ahead = _ahead(covers, tokens)
    top = jnp.maximum(covers.mass.max((1, 2)), covers.end)
    top = jnp.where(jnp.isfinite(top), top, 0)
    weight = jnp.exp(covers.mass - top[:, None, None])
    batch = covers.mass.shape[0]
    flat = lambda x: x.reshape(batch, -1)
    places = flat(
        jnp.where(covers.mass > -jnp.inf, bytes_ahead, SYMBOLS)
    )  # one past the end: dropped
    rows = jnp.arange(batch)[:, None]
    total = jnp.zeros((batch, SYMBOLS), weight.dtype)
    total = total.at[rows, places].add(flat(weight), mode="drop")
    total = total.at[:, END].set(jnp.exp(covers.end - top))
    return jnp.log(total) - jnp.log(total.sum(-1, keepdims=True))


def follow(covers: Covers, tokens: ByteTokens, byte: jax.Array) -> tuple[Covers, Completed]:
    """The covers of texts that are one byte longer, but for those that begin with the cover that ends there.

    Args:
      covers: of the texts.
      tokens: of the vocabulary.
      byte: int32 `[B]`.
    """
    said = jnp.take_along_axis(next_law(covers, tokens), byte[:, None], axis=1)[:, 0]
    spells = (covers.mass > -jnp.inf) & (_ahead(covers, tokens) == byte[:, None, None])
    offset = _offsets(covers, tokens)[..., None]
    lengths = jnp.asarray(tokens.lengths)
    mass = jnp.where(spells, covers.mass - said[:, None, None], -jnp.inf)
    whole = jnp.where(lengths == offset + 1, mass, -jnp.inf)
    size = mass.shape[-1]
    flat = whole.reshape(len(whole), -1)
    best = jnp.argmax(flat, axis=-1).astype(jnp.int32)
    done = Completed(
        row=best // size,
        token=best % size,
        mass=flat.max(-1),
        count=(flat > -jnp.inf).sum(-1, dtype=jnp.int32),
    )
    mass = jnp.where(lengths > offset + 1, mass, -jnp.inf)
    nothing = jnp.full_like(covers.end, -jnp.inf)
    return Covers(mass, nothing, covers.length + 1, covers.log_prob + said), done


def extend(covers: Covers, done: Completed, law: jax.Array, end: jax.Array) -> Covers:
    """Adds the covers that begin with e_n.

    Args:
      covers: as `follow` gives them.
      done: as `follow` gives it.
      law: float `[B, V]`, log-probabilities of the token after e_n, those that may follow it and `end` alone.
      end: float `[B]`, log-probability of the end after e_n.
    """
    new = done.mass[:, None] + law
    here = jnp.arange(covers.mass.shape[1]) == (covers.length % covers.mass.shape[1])[:, None]
    mass = jnp.where(here[..., None], new[:, None], covers.mass)
    return dataclasses.replace(covers, mass=mass, end=done.mass + end)


def restricted(
    logits: jax.Array, allowed: jax.Array, ends: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    """The law of tokens that may follow, and of the end: log-probabilities `[B, V]` and `[B]`, 1 in all.

    Args:
      logits: float `[B, V]`.
      allowed: bool `[B, V]`, tokens of text that may follow.
      ends: tokens that end a text; none where it never ends.
    """
    is_end = jnp.zeros(logits.shape[-1:], bool).at[jnp.asarray(ends, jnp.int32)].set(True)
    law = jax.nn.log_softmax(jnp.where(allowed | is_end, logits, -jnp.inf))
    end = jax.nn.logsumexp(jnp.where(is_end, law, -jnp.inf), axis=-1)
    return jnp.where(allowed & ~is_end, law, -jnp.inf), end


def _offsets(covers: Covers, tokens: ByteTokens) -> jax.Array:
    """n - i of each row, int32 `[B, L]`: the bytes of its tokens that the text has already."""
    rows = jnp.arange(tokens.longest, dtype=jnp.int32)
    return (covers.length[:, None] - rows) % tokens.longest


def _ahead(covers: Covers, tokens: ByteTokens) -> jax.Array:
    """The next byte that each token of each row says, int32 `[B, L, V]`."""
    return jnp.asarray(tokens.table).T[_offsets(covers, tokens)]
