"""A way to think for each problem, and several for the samples of one: dynamic switches and ensembles of prefixes.

Legend: B prompts, M modes, P prompt width, N samples of each prompt, R prefixes, F tokens of a prefix at most.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.decoding import integers
from jaxdec.sampling import is_traced
from jaxdec.search.selection.arrays import check_shape, reals, whole


def choose_mode(scores: Any, thresholds: Any) -> jax.Array:
    """The mode of each problem by a score, such as a classifier's: how hard it is, or whether thinking would help.

        mode_b = number of thresholds that score_b exceeds

    Args:
      scores: `[B]`; NaN exceeds nothing.
      thresholds: `[M - 1]` in rising order, or one `[]` for two modes.

    Returns:
      int32 `[B]` in [0, M).

    Raises:
      ValueError: for other types or shapes, or thresholds out of order.
    """
    scores, thresholds = reals("scores", scores, 1), jnp.atleast_1d(reals("thresholds", thresholds))
    if thresholds.ndim != 1:
        raise ValueError(f"thresholds must have shape [M - 1], got {list(thresholds.shape)}")
    if not is_traced(thresholds) and not (thresholds[1:] >= thresholds[:-1]).all():
        raise ValueError(f"thresholds must be in rising order, got {thresholds.tolist()}")
    return (scores[..., None] > thresholds).sum(-1).astype(jnp.int32)


def prompts_of_mode(prompts: Any, lengths: Any, modes: Any) -> tuple[jax.Array, jax.Array]:
    """The prompt of each problem in its mode, as `generate` takes prompts: other modes compile nothing.

    Args:
      prompts: int `[M, B, P]`, every problem in every mode, right-padded.
      lengths: int `[M, B]`.
      modes: int `[B]` in [0, M); others are clipped.

    Returns:
      Prompts int32 `[B, P]` and lengths int32 `[B]`.

    Raises:
      ValueError: for other types or shapes.

    Source: the dynamic switch of EconProver.
    """
    prompts, lengths = whole("prompts", prompts, 3), whole("lengths", lengths, 2)
    modes = whole("modes", modes, 1)
    check_shape("lengths", lengths, prompts.shape[:2])
    check_shape("modes", modes, prompts.shape[1:2])
    modes = jnp.clip(modes, 0, len(prompts) - 1)
    row = jnp.arange(prompts.shape[1])
    return prompts[modes, row], lengths[modes, row]


def prefix_ensemble(
    prefixes: Sequence[Sequence[int]] | np.ndarray, samples: int, prompts: int = 1
) -> np.ndarray:
    """Samples of a prompt that begin with different prefixes, the samples divided evenly among them.

        generate(..., hypotheses=N, forced_prefix=prefix_ensemble(prefixes, N, B))

    Sample n begins with prefix floor(n R / N); where R > N the later ones are left out. The first verified result
    wins (`first_verified`).

    Args:
      prefixes: R sequences of tokens, of any lengths; an empty one for samples without.
      samples: N, at least 1.
      prompts: B, at least 1.

    Returns:
      int32 `[B N, F]`, -1 behind.

    Raises:
      ValueError: if there is no prefix, or a token is none.

    Source: the ensemble of prefixes of EconProver, with tokens in place of trained vectors.
    """
    samples = int(integers("samples", samples, [()], low=1))
    prompts = int(integers("prompts", prompts, [()], low=1))
    rows = [
        integers(f"prefix {i}", np.asarray(row, None if len(row) else np.int32), [(None,)], low=-1)
        for i, row in enumerate(prefixes)
    ]
    if not rows:
        raise ValueError("prefixes has no sequence; at least 1 is needed")
    table = np.full((len(rows), max(1, *map(len, rows), 1)), -1, np.int32)
    for held, row in zip(table, rows, strict=True):
        held[: len(row)] = row
    count = min(len(rows), samples)
    return np.tile(table[np.arange(samples) * count // samples], (prompts, 1))
