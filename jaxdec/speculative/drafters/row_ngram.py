"""An n-gram model of a row's own text, of any vocabulary: trigrams that back off.

Legend: B rows, L places of the text, W contexts of a row, M tokens each, V vocabulary.
"""

import jax
import jax.numpy as jnp

from jaxdec.decoding import Rows


def row_ngram(
    rows: Rows, before: jax.Array, tokens: jax.Array, vocab_size: int, strength: float
) -> jax.Array:
    """Log-probabilities of tokens after two others, by the trigrams of the text of their row: `[B, W, M]`.

        b1(x)     = (#x + a / V) / (n + a)
        b2(x | v) = (#vx + a b1(x)) / (#v. + a)
        b3(x | u v) = (#uvx + a b2(x | v)) / (#uv. + a)

    A law over the whole vocabulary, however large: what the text has not shown shares what is left in proportion to the
    shorter contexts, and what it has shown once after both tokens has at least 1 / (1 + a).

    Args:
      rows: whose committed tokens are counted, n of them.
      before: int32 `[B, W, 2]`, u and v; negative where there is none.
      tokens: int32 `[B, W, M]`, x.
      vocab_size: V.
      strength: a, the tokens that a shorter context is worth; above 0.

    Exactness: the law in float32. Source: MacKay and Peto 1995, A hierarchical Dirichlet language model.
    """
    places = jnp.arange(rows.tokens.shape[1])
    held = places < rows.length[:, None]
    back = lambda n: jnp.pad(rows.tokens, ((0, 0), (n, 0)), constant_values=-1)[:, : len(places)]
    after = lambda n, token: (back(n)[:, None] == token[..., None]) & (places >= n)
    older, last = before[..., 0], before[..., 1]
    one = jnp.broadcast_to(held[:, None], (*last.shape, len(places)))  # [B, W, L]
    two = one & after(1, last)
    three = two & after(2, older)
    here = rows.tokens[:, None, None] == tokens[..., None]  # [B, W, M, L]
    law = jnp.full(tokens.shape, 1.0 / vocab_size, jnp.float32)
    for seen in (one, two, three):
        count = lambda x: x.sum(-1, dtype=jnp.float32)
        both = count(here & seen[:, :, None])
        law = (both + strength * law) / (count(seen)[..., None] + strength)
    return jnp.log(law)
