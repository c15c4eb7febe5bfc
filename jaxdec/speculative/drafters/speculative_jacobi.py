"""Speculative Jacobi decoding: guesses are drawn from the laws that the target gave after the last ones.

Legend: B rows, m guesses, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.model import Model
from jaxdec.sampling import perturbed_argmax
from jaxdec.speculative.drafters.jacobi import Jacobi
from jaxdec.speculative.tree import check_sizes


@dataclasses.dataclass(frozen=True)
class SpeculativeJacobi(Jacobi):
    """A sliding window of guesses that are drawn; see `speculative_jacobi`."""

    def guesses(self, law: jax.Array, noise: jax.Array) -> jax.Array:
        """Tokens `[B, m]` drawn from their laws with Gumbel noise, `[B, m, V]` both."""
        return perturbed_argmax(law, noise)

    def stated(self, law: jax.Array, known: jax.Array, tokens: jax.Array) -> jax.Array:
        """The laws `[B, m, V]`; one-hot where nothing was known, bool `[B, m]`, and a token was repeated."""
        chosen = jnp.log(jax.nn.one_hot(tokens, self.vocab_size, dtype=jnp.float32))
        return jnp.where(known[..., None], law, chosen)


@typed
def speculative_jacobi(model: Model, *, length: int = 8) -> SpeculativeJacobi:
    """Draws the next guesses from the laws that the target gave after the last ones, and states these laws.

        g'_j ~ p(. | committed text, g_{<j}),   j = 1, ..., m,   g the guesses of the forward before

    With the shared-noise walk a guess is drawn with the very noise of its position, so that it stands as soon as its
    law does. With a ratio verifier it is a fresh draw, accepted with probability `min(1, p / q)`, q the law before. At
    temperature 0 it is `jacobi`.

    Args:
      model: the target, for its vocabulary.
      length: m, at least 1.

    Raises:
      ValueError: if `length < 1`.

    Exactness: that of the verifier.
    Source: SJD, 2410.01699, for images; rows advance on their own here, and nothing that was accepted is tested again.
    Memory: `m V` numbers a row.
    """
    check_sizes(length=length)
    return SpeculativeJacobi(model.vocab_size, length)
