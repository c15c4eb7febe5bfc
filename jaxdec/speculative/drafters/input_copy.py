"""Input-guided aggressive decoding: drafting the rest of the input, from where the output has got to.

Legend: B rows, L buffer width, D depth.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.decoding import Request, Rows
from jaxdec.model import Output, Params
from jaxdec.speculative.contract import Context, StepResult
from jaxdec.speculative.drafters.causal import CausalDrafter
from jaxdec.speculative.drafters.prompt_lookup import suffix_matches
from jaxdec.speculative.tree import DraftTree, check_sizes


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Anchor:
    """The place in the prompt that the output is thought to copy next.

    Attributes:
      place: int32 `[B]`.
      held: bool `[B]`, whether there is such a place; arbitrary `place` if not.
    """

    place: jax.Array
    held: jax.Array


def find_unique(
    tokens: jax.Array, length: jax.Array, prompt_length: jax.Array, max_ngram: int
) -> tuple[jax.Array, jax.Array]:
    """Where the prompt goes on after the shortest suffix of the output that occurs in it exactly once.

    A suffix that occurs several times is lengthened, up to `max_ngram` tokens; it never reaches into the prompt.

    Args:
      tokens: int32 `[L]`, one row.
      length: int32 scalar.
      prompt_length: int32 scalar.
      max_ngram: the longest suffix tried.

    Returns:
      `(place, found)`: the position after the occurrence, and whether there is one.
    """
    longest = suffix_matches(tokens, length, max_ngram)
    longest = jnp.where(jnp.arange(tokens.shape[0]) < prompt_length, longest, 0)
    sizes = jnp.arange(1, max_ngram + 1)
    occurrences = (longest[:, None] >= sizes).sum(0)
    unique = (occurrences == 1) & (sizes <= length - prompt_length)
    place = jnp.argmax(longest >= sizes[jnp.argmax(unique)]) + 1
    return place.astype(jnp.int32), unique.any()


@dataclasses.dataclass(frozen=True)
class InputCopy(CausalDrafter):
    """Proposes the prompt's own tokens from an anchor on; see `input_copy`."""

    depth: int
    max_ngram: int

    def init(self, params: Params, request: Request, output: Output) -> Anchor:
        """The output is thought to begin as the prompt does."""
        start = jnp.zeros_like(request.lengths)
        return Anchor(start, jnp.ones(start.shape, bool))

    def propose(
        self, params: Params, state: Anchor, context: Context
    ) -> tuple[DraftTree, tuple[Anchor, jax.Array]]:
        """The prompt from the anchor on; also returns the anchor and the length of the row."""
        rows = context.rows
        find = lambda tokens, length, prompt: find_unique(tokens, length, prompt, self.max_ngram)
        place, found = jax.vmap(find)(rows.tokens, rows.length, rows.prompt_length)
        anchor = Anchor(jnp.where(state.held, state.place, place), state.held | found)
        inside = anchor.place[:, None] + jnp.arange(self.depth) < rows.prompt_length[:, None]
        tokens = rows.window(anchor.place, self.depth)
        tree = DraftTree.chain(tokens, mask=inside & anchor.held[:, None])
        return tree, (anchor, rows.length)

    def update(self, params: Params, state: Anchor, rows: Rows, result: StepResult) -> Anchor:
        """The anchor moves on if all that was committed is a copy, and is let go else."""
        anchor, start = result.proposal
        count, width = rows.length - start, self.depth + 1
        same = rows.window(start, width) == rows.window(anchor.place, width)
        copied = (same | (jnp.arange(width) >= count[:, None])).all(1)
        place = anchor.place + count
        return Anchor(place, anchor.held & copied & (place < rows.prompt_length))

    def rest(
        self, params: Params, state: Anchor, before: Rows, rows: Rows, result: StepResult
    ) -> Anchor:
        """The anchor moves on as in any step, but is not looked for."""
        proposal = state, before.length
        return self.update(params, state, rows, dataclasses.replace(result, proposal=proposal))


def input_copy(*, length: int = 16, max_ngram: int = 6) -> InputCopy:
    """Drafts the prompt's own text from where the output has got to: for outputs close to their input.

        x_j = prompt[a + j],   j = 0, ..., `length` - 1,   a the place after the part of the prompt that was copied last

    The output is thought to begin as the prompt does. At a mismatch the place is let go and found anew: after the
    shortest suffix of the output that occurs in the prompt exactly once. While there is none, nothing is drafted.

    Args:
      length: drafts a step at most, at least 1.
      max_ngram: the longest suffix that is looked up, at least 1.

    Raises:
      ValueError: for sizes below 1.

    Exactness: that of the verifier.
    Source: input-guided aggressive decoding (IAD), 2205.10350, with suffixes of up to 3 words; bytes need longer ones.
    The whole rest of the input is drafted there, here `length` tokens a step, and the place is kept between steps.
    """
    check_sizes(length=length, max_ngram=max_ngram)
    return InputCopy(length, max_ngram)
