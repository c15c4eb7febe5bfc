"""Verification of draft trees from the target's logits.

Legend: B rows, N draft nodes, T = N + 1 scored tokens (the pending token, then the nodes), D depth, V vocabulary.
"""

import functools

import jax
import jax.numpy as jnp

from pallas_kernels import dispatch
from pallas_kernels.noise import key_words
from pallas_kernels.verify import gpu, reference, tpu
from pallas_kernels.verify.reference import Walked


def walk(
    logits: jax.Array,
    tokens: jax.Array,
    parents: jax.Array,
    mask: jax.Array,
    keys: jax.Array,
    temperature: jax.Array,
    banned: jax.Array | None = None,
    noise: jax.Array | None = None,
    *,
    depth: int,
    implementation: dispatch.Implementation | None = None,
) -> Walked:
    """The shared-noise walk: down a draft tree along the tokens that plain sampling would draw.

    With p_n the law after scored token n, banned tokens removed and logits divided by the temperature, the token after
    n at depth d is

        t_n = argmax_v [ log p_n(v) + g_d(v) ],

    g_d the noise `jax.random.gumbel(keys[:, d], (V,), mode="high")`; at temperature 0 the allowed token of the largest
    logit, of several the first. The walk starts at the pending token, goes to the existing child that carries t_n, and
    ends with t_n where there is none. Of several such children it goes the way that leads deepest, then to the first.

    The TPU kernel reads only the logits of the scored tokens on the path, once each, and makes the noise in passing.

    Args:
      logits: `[B, T, V]`, any float type, the target's after each scored token; -inf marks impossible tokens.
      tokens: int32 `[B, N]`, the drafts.
      parents: int32 `[B, N]`; -1 hangs off the pending token, and every other parent comes before its child.
      mask: bool `[B, N]`, which nodes exist; a child of a node that does not exist does not exist.
      keys: `[B, D + 1]` keys or their words uint32 `[B, D + 1, 2]`, one for each row and depth.
      temperature: float32 `[B]`; 0 = greedy, 1 = off.
      banned: bool `[B, V]`, tokens that are never drawn; None for none.
      noise: float32 `[B, D + 1, V]`, what the keys draw, for a caller that holds it: the reference then does not draw
        it again. Kernels do not read it.
      depth: D, at least that of the deepest node.
      implementation: see `pallas_kernels.dispatch`; kernels need threefry keys.

    Raises:
      ValueError: for shapes that do not fit together, or an implementation that cannot serve them.
    """
    _check_tree(logits, tokens, parents, mask, temperature, banned)
    batch, _, vocab_size = logits.shape
    _check_keys(keys, (batch, depth + 1))
    if noise is not None:
        _check("noise", noise.shape, (batch, depth + 1, vocab_size))
    forms = {"reference": reference.walk, "tpu": tpu.walk, "gpu": gpu.walk}
    return dispatch.dispatch(
        "verify.walk",
        {name: functools.partial(form, depth=depth) for name, form in forms.items()},
        jnp.asarray(logits, jnp.float32),
        tokens,
        parents,
        mask,
        keys,
        temperature,
        banned,
        noise,
        implementation=implementation,
        unsupported=lambda name, *arrays: None if name == "reference" else _foreign(keys),
    )


def ratio_walk(
    logits: jax.Array,
    q: jax.Array | None,
    tokens: jax.Array,
    parents: jax.Array,
    mask: jax.Array,
    uniforms: jax.Array,
    keys: jax.Array,
    temperature: jax.Array,
    banned: jax.Array | None = None,
    *,
    depth: int,
    implementation: dispatch.Implementation | None = None,
) -> Walked:
    """Recursive rejection: down a draft tree by tests of probability ratios, so that tokens have the target's law.

    The walk starts at the pending token. Where it is, with p the law there, banned tokens removed and logits divided by
    the temperature, the children are tested in their order: child n passes iff

        u_n q_n(x_n) < p(x_n),    and if not, p becomes [p - q_n]+, normalised (p if nothing is left of it).

    The walk goes to the first child that passes, or rather to the first sibling of the same token, since what follows
    hangs off that one. Where none passes it ends, with the token `argmax_v [log p(v) + g(v)]`,
    `g = jax.random.gumbel(key, (V,), mode="high")`. On a chain this is speculative sampling.

    The TPU kernel reads only the logits of the scored tokens on the path and the laws q of the nodes that are tested.
    There is no kernel for GPUs, on which one walk keeps too few threads busy.

    Args:
      logits: `[B, T, V]`, as for `walk`.
      q: float32 `[B, N, V]`, log-probabilities of the law that each node was drawn from given its earlier siblings;
        None if all nodes were chosen, which is a one-hot law.
      tokens: int32 `[B, N]`, as for `walk`; so the following.
      parents: int32 `[B, N]`.
      mask: bool `[B, N]`.
      uniforms: float32 `[B, N]`, u in [0, 1).
      keys: `[B]` keys or their words uint32 `[B, 2]`, of the token that ends the walk.
      temperature: float32 `[B]`.
      banned: bool `[B, V]` or None.
      depth: D.
      implementation: see `pallas_kernels.dispatch`.

    Returns:
      The path and the token after it; `log_probs` are those of the target's own law, whatever the tests left of it.

    Raises:
      ValueError: for shapes that do not fit together, or an implementation that cannot serve them.
    """
    _check_tree(logits, tokens, parents, mask, temperature, banned)
    _check("uniforms", uniforms.shape, tokens.shape)
    _check_keys(keys, tokens.shape[:1])
    if q is not None:
        _check("q", q.shape, (*tokens.shape, logits.shape[-1]))
    forms = {"reference": reference.ratio_walk, "tpu": tpu.ratio_walk}
    return dispatch.dispatch(
        "verify.ratio_walk",
        {name: functools.partial(form, depth=depth) for name, form in forms.items()},
        jnp.asarray(logits, jnp.float32),
        q,
        tokens,
        parents,
        mask,
        uniforms,
        keys,
        temperature,
        banned,
        implementation=implementation,
        unsupported=lambda name, *arrays: None if name == "reference" else _foreign(keys),
    )


def _foreign(keys: jax.Array) -> str | None:
    """Why kernels cannot draw from these keys."""
    try:
        key_words(keys)
    except ValueError as error:
        return str(error)
    return None


def _check_tree(logits, tokens, parents, mask, temperature, banned) -> None:
    """Raises `ValueError` at the first array whose shape does not fit the logits."""
    if logits.ndim != 3 or logits.shape[1] < 2:
        raise ValueError(f"logits must be [B, T, V] with T of at least 2, got {logits.shape}")
    batch, scored, vocab_size = logits.shape
    for name, array in (("tokens", tokens), ("parents", parents), ("mask", mask)):
        _check(name, array.shape, (batch, scored - 1))
    _check("temperature", temperature.shape, (batch,))
    if banned is not None:
        _check("banned", banned.shape, (batch, vocab_size))


def _check_keys(keys: jax.Array, shape: tuple[int, ...]) -> None:
    typed = jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
    _check("keys", keys.shape, shape if typed else (*shape, 2))


def _check(name: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if shape != wanted:
        raise ValueError(f"{name} must have the shape {wanted}, got {shape}")
