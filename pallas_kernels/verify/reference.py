"""Verification of draft trees in plain jnp: the specification.

Legend: B rows, N draft nodes, T = N + 1 scored tokens (the pending token, then the nodes), D depth, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from pallas_kernels.laws import gumbel, warped


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Walked:
    """A path down a draft tree, and the token after it.

    Token d of the chunk is that of the accepted node at depth d + 1, or `next_token` for d = `count`.

    Attributes:
      path: int32 `[B, D + 1]`, scored tokens from the pending one (0) down the accepted nodes; 0 after `count`.
      count: int32 `[B]`, accepted nodes.
      next_token: int32 `[B]`, the token that follows them.
      log_probs: float32 `[B, D + 1]`, of each chunk token after its predecessor, under the warped law: NaN where the
        logits hold NaN or +inf or no token is left. Entries after `count` are arbitrary.
      raw_log_probs: float32 `[B, D + 1]`, the same under the law of the logits alone; arbitrary where `log_probs` is
        NaN.
    """

    path: jax.Array
    count: jax.Array
    next_token: jax.Array
    log_probs: jax.Array
    raw_log_probs: jax.Array


def walk(logits, tokens, parents, mask, keys, temperature, banned, noise, *, depth: int) -> Walked:
    """See `pallas_kernels.verify.walk`."""
    law = target_law(logits, temperature, banned)
    if noise is None:
        noise = gumbel(keys, temperature, logits.shape[-1])
    drawn = jnp.argmax(law + at(noise, depths(parents, depth)), axis=-1).astype(jnp.int32)
    log_probs = entry(law, drawn)
    raw_log_probs = entry(logits, drawn) - jax.nn.logsumexp(logits, axis=-1)
    return follow(drawn, log_probs, raw_log_probs, tokens, parents, mask, depth)


def target_law(logits: jax.Array, temperature: jax.Array, banned: jax.Array | None) -> jax.Array:
    """Log-probabilities `[B, T, V]`; settings `[B]` and `[B, V]`."""
    heat = jnp.broadcast_to(temperature[:, None], logits.shape[:2])
    return warped(logits, heat, None if banned is None else banned[:, None])[0]


def follow(
    drawn: jax.Array,
    log_probs: jax.Array,
    raw_log_probs: jax.Array,
    tokens: jax.Array,
    parents: jax.Array,
    mask: jax.Array,
    depth: int,
) -> Walked:
    """The walk along tokens that are drawn already.

    Args:
      drawn: int32 `[B, T]`, the token after each scored token.
      log_probs: float32 `[B, T]`, of that token.
      raw_log_probs: float32 `[B, T]`.
      tokens: int32 `[B, N]`; this and the following as for `pallas_kernels.verify.walk`.
      parents: int32 `[B, N]`.
      mask: bool `[B, N]`.
      depth: D.
    """
    path, count, last = descend(mask & (tokens == at(drawn, parents + 1)), parents, depth)
    next_token = at(drawn, last[:, None])[:, 0]
    return Walked(path, count, next_token, at(log_probs, path), at(raw_log_probs, path))


def descend(
    kept: jax.Array, parents: jax.Array, depth: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The deepest path of kept nodes, of several that to the first node: `path`, `count`, and the last scored token.

    Args:
      kept: bool `[B, N]`.
      parents: int32 `[B, N]`.
      depth: D.
    """
    alive = jnp.arange(parents.shape[1] + 1) == jnp.zeros_like(parents[:, :1])  # [B, T]
    last = count = jnp.zeros_like(parents[:, 0])
    for _ in range(depth):
        alive = jnp.pad(kept & at(alive, parents + 1), ((0, 0), (1, 0)))
        last = jnp.where(alive.any(-1), jnp.argmax(alive, axis=-1), last)
        count += alive.any(-1)
    above = ancestors(parents, last[:, None], depth)[..., 0]  # [D + 1, B]
    lift = jnp.maximum(count[:, None] - jnp.arange(depth + 1), 0)  # from the last node up
    path = jnp.where(jnp.arange(depth + 1) <= count[:, None], at(above.T, lift), 0)
    return path.astype(jnp.int32), count, last.astype(jnp.int32)


def ratio_walk(
    logits, q, tokens, parents, mask, uniforms, keys, temperature, banned, *, depth: int
) -> Walked:
    """See `pallas_kernels.verify.ratio_walk`."""
    law = target_law(logits, temperature, banned)
    q = jax.nn.one_hot(tokens, logits.shape[-1], dtype=jnp.float32) if q is None else jnp.exp(q)
    # XLA moves exp into the select that gave the NaN, and on CPUs exp of a constant NaN is anything.
    p = jnp.where(jnp.isnan(law), jnp.nan, jnp.exp(law))
    passed, left = judged(p, q, tokens, parents, mask, uniforms)
    path, count, last = descend(taken(passed, tokens, parents, mask), parents, depth)
    left = at(left, last[:, None])[:, 0]
    noise = gumbel(keys, temperature, logits.shape[-1])
    next_token = jnp.argmax(jnp.log(left) + noise, axis=-1).astype(jnp.int32)
    accepted = jnp.arange(depth + 1) < count[:, None]
    drafts = at(tokens, jnp.maximum(jnp.roll(path, -1, axis=1) - 1, 0))
    chunk = jnp.where(accepted, drafts, next_token[:, None])
    totals = jax.nn.logsumexp(logits, axis=-1)
    raw = entry(at(logits, path), chunk) - at(totals, path)
    return Walked(path, count, next_token, entry(at(law, path), chunk), raw)


def judged(p, q, tokens, parents, mask, uniforms) -> tuple[jax.Array, jax.Array]:
    """Which nodes pass, bool `[B, N]`, had their earlier siblings failed; and what all tests leave, `[B, T, V]`."""
    rows = jnp.arange(len(tokens))

    def judge(left, node):
        q, token, parent, exists, u = node
        before = left[rows, parent]
        passes = u * q[rows, token] < before[rows, token]
        after = jnp.maximum(before - q, 0)
        total = after.sum(-1, keepdims=True)
        after = jnp.where(total > 0, after / jnp.where(total > 0, total, 1), before)
        left = left.at[rows, parent].set(jnp.where(exists[:, None], after, before))
        return left, passes & exists

    nodes = (q.swapaxes(0, 1), tokens.T, parents.T + 1, mask.T, uniforms.T)
    left, passed = jax.lax.scan(judge, p, nodes)
    return passed.T, left


def taken(passed, tokens, parents, mask) -> jax.Array:
    """The nodes that the first passing sibling leads to, bool `[B, N]`: the first sibling that carries its token."""
    earlier = jnp.tri(tokens.shape[1], k=-1, dtype=bool)  # [n, m]: m < n
    siblings = (parents[:, :, None] == parents[:, None, :]) & mask[:, None, :]
    chosen = passed & ~(siblings & earlier & passed[:, None, :]).any(-1)
    alike = siblings & (tokens[:, :, None] == tokens[:, None, :])
    return mask & (alike & chosen[:, None, :]).any(-1) & ~(alike & earlier).any(-1)


def depths(parents: jax.Array, depth: int) -> jax.Array:
    """The depth int32 `[B, T]` of each scored token, 0 for the pending one; `depth` is the largest."""
    scored = jnp.broadcast_to(
        jnp.arange(parents.shape[1] + 1), (len(parents), parents.shape[1] + 1)
    )
    return (ancestors(parents, scored, depth) > 0).sum(0)


def ancestors(parents: jax.Array, scored: jax.Array, depth: int) -> jax.Array:
    """Scored tokens int32 `[B, K]` and those above them, int32 `[D + 1, B, K]`; 0 above the pending token."""
    up = jnp.pad(parents + 1, ((0, 0), (1, 0)))
    found = [scored]
    for _ in range(depth):
        found.append(at(up, found[-1]))
    return jnp.stack(found)


def at(values: jax.Array, index: jax.Array) -> jax.Array:
    """`values[b, index[b, i]]` for `[B, K, ...]` and int32 `[B, I]`."""
    index = index.reshape(index.shape + (1,) * (values.ndim - 2))
    return jnp.take_along_axis(values, index, axis=1)


def entry(values: jax.Array, index: jax.Array) -> jax.Array:
    """`values[..., index[...]]` for `[..., V]` and int32 `[...]`."""
    return jnp.take_along_axis(values, index[..., None], axis=-1)[..., 0]
