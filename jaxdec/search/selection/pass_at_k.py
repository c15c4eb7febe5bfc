"""pass@k and maj@k: what k samples would have given, estimated from more.

Legend: N samples of a prompt, R draws of subsets; leading axes `[...]` are prompts.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import check_type
from jaxdec.search.selection.arrays import at, check_shape, flags, reals, whole
from jaxdec.search.selection.vote import vote


def pass_at_k(correct: Any, k: Any, valid: Any = None) -> jax.Array:
    """The probability that one of k samples is correct, unbiased.

        1 - C(n - c, k) / C(n, k) = 1 - prod_{i = n - c + 1}^{n} (1 - k / i)

    for c correct ones of n samples: the share of subsets of size k that hold a correct sample.

    Args:
      correct: bool `[..., N]`.
      k: int `[]` or `[...]`, at least 1.
      valid: bool `[..., N]`, which samples there are; all if not given.

    Returns:
      float32 `[...]` (float64 where JAX has it); NaN where k > n.

    Raises:
      ValueError: for other types or shapes, or a k out of [1, N].

    Source: Chen et al., 2107.03374.
    """
    shape = jnp.shape(correct)
    if not shape or not shape[-1]:
        raise ValueError(f"correct must have shape [..., N] with N >= 1, got {list(shape)}")
    correct, valid = flags("correct", correct, shape), flags("valid", valid, shape)
    k = _within(k, shape[-1])
    n, c = valid.sum(-1)[..., None], (correct & valid).sum(-1)[..., None]
    i = jnp.arange(1, shape[-1] + 1)
    real = jnp.result_type(float)
    factors = jnp.maximum(1 - k[..., None].astype(real) / i.astype(real), 0)
    missed = jnp.where((i > n - c) & (i <= n), factors, 1).prod(-1)
    return jnp.where(k > n[..., 0], jnp.nan, 1 - missed)


def maj_at_k(
    keys: jax.Array, ids: Any, correct: Any, k: Any, *, draws: int = 256, weights: Any = None
) -> jax.Array:
    """The probability that a vote of k samples is correct, over random subsets of size k.

    A tie goes to the answer that a random order of the subset has first. A vote without any answer is not correct.

    Args:
      keys: random keys `[...]`, one a prompt.
      ids: int `[..., N]`, numbers of answers; those below 0 are no answers, but are drawn like others.
      correct: bool `[..., N]`, the same for samples of one answer.
      k: int `[]` or `[...]`, in [1, N].
      draws: R, subsets; the standard error is at most `1 / (2 sqrt(R))`.
      weights: `[..., N]`, of a weighted vote; 1 each if not given.

    Returns:
      float32 `[...]`; its mean over keys is the mean over all subsets.

    Raises:
      ValueError: for other types or shapes, a k out of [1, N], or `draws` below 1.
    """
    ids = whole("ids", ids, 1)
    correct = flags("correct", correct, ids.shape)
    weights = jnp.ones(ids.shape, jnp.float32) if weights is None else reals("weights", weights)
    check_shape("weights", weights, ids.shape)
    check_shape("keys", keys, ids.shape[:-1])
    check_type("draws", draws, int)
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    count = ids.shape[-1]
    k = jnp.broadcast_to(_within(k, count), ids.shape[:-1])

    def once(key, ids, correct, weights, k):
        order = jax.random.permutation(key, count)
        drawn = jnp.where(jnp.arange(count) < k, ids[order], -1)
        found = vote(drawn, weights[order])
        return (found.winner >= 0) & at(correct[order], found.winner)

    def of_prompt(key, *given):
        folds = jax.vmap(lambda draw: jax.random.fold_in(key, draw))(jnp.arange(draws))
        return jax.vmap(once, in_axes=(0, None, None, None, None))(folds, *given).mean(
            dtype=jnp.float32
        )

    function = of_prompt
    for _ in ids.shape[:-1]:
        function = jax.vmap(function)
    return function(keys, ids, correct, weights, k)


def _within(k: Any, most: int) -> jax.Array:
    k = whole("k", k, 0, 1)
    if not isinstance(k, jax.core.Tracer) and (k > most).any():
        raise ValueError(f"k must lie in [1, {most}], got {k.max()}")
    return k
