"""Votes of the samples that finish first: short-m@k, and first finish search.

Legend: N samples of a prompt; leading axes `[...]` are prompts.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.search.selection.arrays import check_shape, first, flags, whole
from jaxdec.search.selection.vote import Vote, vote


def first_to_finish(steps: Any, m: Any = 1, *, last: bool = False) -> jax.Array:
    """Which samples are the first m to finish: by step, then by index.

    Args:
      steps: int `[..., N]`, the step (or tokens) after which each finished; below 0 for those that never did.
      m: int `[]` or `[...]`, how many, at least 1.
      last: the last m instead, as a control.

    Returns:
      bool `[..., N]`, min(m, number of finished samples) of them true.

    Raises:
      ValueError: for other types or shapes, or an m below 1.
    """
    steps, m = whole("steps", steps, 1), whole("m", m, 0, 1)
    finished, index = steps >= 0, jnp.arange(steps.shape[-1])
    ours, other = steps[..., :, None], steps[..., None, :]
    sooner = other > ours if last else other < ours
    before = (sooner | ((other == ours) & (index[None, :] < index[:, None]))) & finished[
        ..., None, :
    ]
    return finished & (before.sum(-1) < m[..., None])


def short_vote(ids: Any, steps: Any, m: Any, *, last: bool = False) -> Vote:
    """short-m@k: the majority among the first m samples to finish; a tie goes to the shortest of the tied.

    Samples without an answer take their place among the m and have no vote. m = N is the majority vote of all that
    finished, m = 1 first finish search; stop the others when m are done for what this saves.

    Args:
      ids: int `[..., N]`, numbers of answers; those below 0 are no answers.
      steps: int `[..., N]`, the step after which each finished; below 0 for those that never did.
      m: int `[]` or `[...]`, at least 1.
      last: of the last m instead, as a control.

    Returns:
      The vote.

    Raises:
      ValueError: for other types or shapes, or an m below 1.

    Exactness: heuristic; m = 1 has the law of the shortest of N samples.
    Source: "Don't Overthink it", 2505.17813; "First Finish Search", 2505.18149.
    """
    ids, steps = whole("ids", ids, 1), whole("steps", steps, 1)
    check_shape("steps", steps, ids.shape)
    chosen = first_to_finish(steps, m, last=last)
    return vote(jnp.where(chosen, ids, -1), tie="shortest", lengths=steps)


def first_verified(verified: Any, steps: Any) -> jax.Array:
    """The first sample to finish whose result was verified, such as a proof.

    Args:
      verified: bool `[..., N]`, what a checker says.
      steps: int `[..., N]`, the step after which each finished; below 0 for those that never did.

    Returns:
      int32 `[...]`, its index; -1 if there is none.

    Raises:
      ValueError: for other types or shapes.
    """
    steps = whole("steps", steps, 1)
    verified = flags("verified", verified, steps.shape)
    return first(first_to_finish(jnp.where(verified, steps, -1)))
