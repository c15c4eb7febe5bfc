"""The best acceptance that any exact verifier can reach.

Legend: V vocabulary, n drafts.
"""

import jax
import jax.numpy as jnp
import numpy as np

_TIMES = np.exp(np.linspace(-25, 20, 321))
"""Nodes of a trapezoidal rule in log t, which is as precise as the float type for laws that are smooth in log t."""


def optimal_acceptance(p: jax.Array, q: jax.Array, n: int, *, replacement: bool) -> jax.Array:
    """The highest probability that one of n drafts drawn from q is emitted, over all verifiers that keep the law p.

        min over sets H of   1 + p(H) - Pr(all n drafts lie in H),

    where the best H holds the tokens of the highest q / p. With replacement the second term is `q(H)^n`. Without, let a
    clock of rate q(v) ring for each token: the drafts are the first n to ring, and they lie in H iff n clocks of H ring
    before any other. That takes a pass over all tokens, one after the other.

    Next to a verifier's own acceptance it shows what a better one could gain.

    Args:
      p: `[..., V]`, laws of the target.
      q: `[..., V]`, laws of the drafter. One of fewer than n tokens proposes all of them.
      n: drafts, at least 1.
      replacement: whether the drafts are independent draws, or draws without replacement.

    Returns:
      `[...]`.

    Raises:
      ValueError: if `n < 1`, or `n > V` without replacement.

    Source: Hu et al., 2502.18779.
    """
    return optimal_bound(p, q, n, replacement=replacement)[0]


def optimal_bound(
    p: jax.Array, q: jax.Array, n: int, *, replacement: bool
) -> tuple[jax.Array, jax.Array]:
    """The highest acceptance, and the set H of tokens that proves it: see `optimal_acceptance`.

    A verifier that keeps p emits a token of H with probability p(H), and where it accepts one of drafts S that all lie
    in H, it does. So of one round, with S drafted and y emitted,

        accepted <= [S is not within H] + [y in H],

    whose mean is the bound: held against a verifier on the same draws it is never exceeded by chance.

    Args:
      p: as there; so the following.
      q: as there.
      n: as there.
      replacement: as there.

    Returns:
      `[...]`, and H, bool `[..., V]`.

    Raises:
      ValueError: as there.
    """
    vocab_size = p.shape[-1]
    if n < 1:
        raise ValueError(f"acceptance is that of at least 1 draft, got {n}")
    if not replacement and n > vocab_size:
        raise ValueError(f"{vocab_size} tokens give at most as many distinct drafts, got {n}")
    order = jnp.argsort(jnp.where(p > 0, -q / jnp.where(p > 0, p, 1), -jnp.inf), axis=-1)
    p, q = (jnp.take_along_axis(law, order, axis=-1) for law in (p, q))
    inside = jnp.minimum(jnp.cumsum(q, axis=-1), 1)
    drawn = inside**n if replacement or n == 1 else _drawn_without(q, inside, n)
    gained = jnp.cumsum(p, axis=-1) - drawn
    gained = jnp.pad(gained, [(0, 0)] * (gained.ndim - 1) + [(1, 0)])  # H may be empty
    size = jnp.argmin(gained, axis=-1, keepdims=True)
    held = jnp.put_along_axis(
        jnp.zeros(order.shape, bool), order, jnp.arange(vocab_size) < size, axis=-1, inplace=False
    )
    return jnp.clip(1 + gained.min(-1), 0, 1), held


def _drawn_without(q: jax.Array, inside: jax.Array, n: int) -> jax.Array:
    """The probability that n draws without replacement lie among the first v tokens, `[..., V]` for v = 1, ..., V."""
    times = jnp.asarray(_TIMES, q.dtype)
    outside = 1 - inside[..., None]
    # Of the time at which the first clock outside rings: rate * exp(-rate t) dt, with dt = t d(log t).
    density = outside * times * jnp.exp(-outside * times) * np.diff(np.log(_TIMES)).mean()

    def ring(rung, token):  # rung [..., G, n]: the probability that 0, ..., n - 1 clocks have rung
        rate, density = token
        late = jnp.exp(-rate[..., None, None] * times[:, None])
        before = jnp.pad(rung[..., :-1], [(0, 0)] * (rung.ndim - 1) + [(1, 0)])
        rung = rung * late + before * (1 - late)
        return rung, (rung.sum(-1) * density).sum(-1)

    none = jnp.zeros((*q.shape[:-1], times.size, n), q.dtype).at[..., 0].set(1)
    _, fewer = jax.lax.scan(ring, none, (jnp.moveaxis(q, -1, 0), jnp.moveaxis(density, -2, 0)))
    return jnp.clip(1 - jnp.moveaxis(fewer, 0, -1), 0, 1)
