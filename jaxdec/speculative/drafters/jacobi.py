"""Jacobi decoding: the target's answers to wrong guesses are the next guesses.

Legend: B rows, m guesses, T = m + 1 scored tokens, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Request, Rows
from jaxdec.model import Model, Output, Params
from jaxdec.sampling import perturbed_argmax
from jaxdec.speculative.contract import Context, StepResult
from jaxdec.speculative.drafters.causal import CausalDrafter
from jaxdec.speculative.tree import DraftTree, check_sizes


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class JacobiWindow:
    """What the last forward said of the next m positions of a row.

    Attributes:
      logits: float32 `[B, m, V]`.
      given: int32 `[B, m]`, the guesses at these positions that it was told; logits j saw those before j.
      known: bool `[B, m]`, whether it said anything.
    """

    logits: jax.Array
    given: jax.Array
    known: jax.Array


@dataclasses.dataclass(frozen=True)
class Jacobi(CausalDrafter):
    """A sliding window of guesses; see `jacobi`."""

    vocab_size: int
    depth: int

    def init(self, params: Params, request: Request, output: Output) -> JacobiWindow:
        """Nothing is known."""
        shape = (len(request.lengths), self.depth)
        logits = jnp.zeros((*shape, self.vocab_size), jnp.float32)
        return JacobiWindow(logits, jnp.zeros(shape, jnp.int32), jnp.zeros(shape, bool))

    def propose(
        self, params: Params, state: JacobiWindow, context: Context
    ) -> tuple[DraftTree, tuple[jax.Array, jax.Array]]:
        """Guesses each position by its last law; also returns the guesses and the lengths of the rows."""
        rows, warp = context.rows, context.settings.warp
        batch, size = state.known.shape
        if size != self.depth:
            raise ValueError(f"the window holds {size} guesses, the drafter makes {self.depth}")
        # What the forward that gave the laws was told.
        before = jnp.broadcast_to(jnp.tri(size, k=-1, dtype=bool), (batch, size, size))
        law = warp.log_probs(state.logits, warp.read(rows.history).along(state.given, before))
        known = state.known & ~jnp.isnan(law[..., 0])  # a broken law guesses nothing
        guesses = self.guesses(law, warp.settled(law, context.noise[:, :size]))
        # Where nothing is known, the token to the left is repeated.
        left = jax.lax.cummax(jnp.where(known, jnp.arange(size), -1), axis=1)
        repeated = jnp.take_along_axis(guesses, jnp.maximum(left, 0), axis=1)
        tokens = jnp.where(left < 0, rows.pending[:, None], repeated)
        return DraftTree.chain(tokens, q=self.stated(law, known, tokens)), (tokens, rows.length)

    def guesses(self, law: jax.Array, noise: jax.Array) -> jax.Array:
        """Tokens `[B, m]` by their laws `[B, m, V]`: the most probable ones."""
        return perturbed_argmax(law, jnp.zeros_like(law))

    def stated(self, law: jax.Array, known: jax.Array, tokens: jax.Array) -> jax.Array | None:
        """The laws `[B, m, V]` that the guesses were drawn from; None, since they are chosen."""
        return None

    def update(
        self, params: Params, state: JacobiWindow, rows: Rows, result: StepResult
    ) -> JacobiWindow:
        """The window moves on by what was committed; what was accepted is never guessed again."""
        (tokens, length), size = result.proposal, self.depth
        at = (rows.length - length)[:, None] + jnp.arange(size)  # T answers, m guesses
        logits = result.output.logits
        answers = jnp.take_along_axis(logits, jnp.minimum(at, size)[..., None], axis=1)
        given = jnp.take_along_axis(tokens, jnp.minimum(at, size - 1), axis=1)
        return JacobiWindow(answers.astype(jnp.float32), given, at <= size)


@typed
def jacobi(model: Model, *, length: int = 8) -> Jacobi:
    """Guesses the next tokens by the most probable ones after the last guesses, with no draft model.

        g'_j = argmax p(. | committed text, g_{<j}),   j = 1, ..., m,   g the guesses of the forward before

    The window slides: each forward commits the leading run of guesses that it confirms and one token more, and what it
    answers after the others are the next guesses. Places that are new to the window repeat the token to their left.

    Args:
      model: the target, for its vocabulary.
      length: m, at least 1.

    Raises:
      ValueError: if `length < 1`.

    Exactness: that of the verifier.
    Source: Jacobi decoding, 2305.10427, in the sliding form. The guesses are chosen, so that any verifier serves.
    """
    check_sizes(length=length)
    return Jacobi(model.vocab_size, length)
