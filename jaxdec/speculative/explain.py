"""A step to look at: what was proposed, and what became of it."""

import dataclasses

import jax

from jaxdec.decoding import Info, check_parts, part_names
from jaxdec.model import Params
from jaxdec.sampling import row_keys
from jaxdec.speculative.contract import Verdict
from jaxdec.speculative.loop import Speculative, SpeculativeState
from jaxdec.speculative.tree import DraftTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Explained:
    """A step of `Speculative`. Of a row that had ended, nothing in here has a meaning.

    Attributes:
      pending: int32 `[B]`, the last token before the step, which the tree hangs off.
      tree: what the drafter proposed.
      verdict: what the verifier decided, before stops and budgets cut it.
      info: what was committed.
    """

    pending: jax.Array
    tree: DraftTree
    verdict: Verdict
    info: Info


def _explained(
    decoder: Speculative, params: Params, state: SpeculativeState, keys: jax.Array
) -> tuple[SpeculativeState, Explained]:
    # Proposals are pure: `judge` makes the same one, and the compiler merges the two.
    tree, _ = decoder.propose(params, state, decoder.context(state, keys))
    result = decoder.judge(params, state, keys)
    after, info = decoder.conclude(params, state, result)
    return after, Explained(state.rows.pending, tree, result.verdict, info)


_jitted = jax.jit(_explained, static_argnums=0)


def explain(
    decoder: Speculative, params: Params, state: SpeculativeState, rng: jax.Array
) -> tuple[SpeculativeState, Explained]:
    """Takes one step and tells how it came about; for looking at, not for speed.

    Args:
      decoder: from `speculative`.
      params: of the target and the drafter, by part name.
      state: before the step, first from `jaxdec.decoding.init`; not donated.
      rng: one key, or one a row `[B]`; as in `run`.

    Returns:
      The state after the step, the same as `decoder.step` gives, and what happened.

    Raises:
      ValueError: for parameters that are not by part name.
    """
    check_parts(params, part_names(decoder))
    keys = row_keys(rng, state.rows.status.shape[0])
    return _jitted(decoder, params, state, keys)
