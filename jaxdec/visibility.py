"""Who may see whom, as two integers a token.

A token has a span with which it sees (as a query) and a span over which it is seen (as a key). A key `(start, stop)` is
seen by a query `(lo, hi)` iff

    start <= lo  and  hi <= stop,

that is, iff the query's interval lies inside the key's. Every attention pattern of this package is a choice of
these integers: O(T + S) numbers, two compares a pair, and no mask. `dense` renders the boolean matrix for
references, tests and plots.

Legend: B rows, T new tokens, S cached slots, N nodes of a draft tree. All spans are int32 `[..., 2]`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

FOREVER = np.int32(2**30)
"""The stop of a key that every later query sees."""

EMPTY = np.array([2**30, -(2**30)], np.int32)
"""The span of a key that nobody sees: an empty cache slot, a padded token, a query row."""


class Spans(NamedTuple):
    """The spans of some new tokens.

    Attributes:
      query_spans: int32 `[B, T, 2]`, what each token sees with.
      key_spans: int32 `[B, T, 2]`, over which queries each token is seen.
    """

    query_spans: jax.Array
    key_spans: jax.Array

    def where(self, valid: jax.Array) -> "Spans":
        """Hides the keys of tokens that are not `valid` (bool `[B, T]`); what they see themselves stays."""
        return Spans(self.query_spans, jnp.where(valid[..., None], self.key_spans, EMPTY))


def dense(query_spans: jax.Array, key_spans: jax.Array) -> jax.Array:
    """Renders visibility: bool `[..., T, S]` from query spans `[..., T, 2]` and key spans `[..., S, 2]`."""
    starts, stops = key_spans[..., None, :, 0], key_spans[..., None, :, 1]
    return (starts <= query_spans[..., :, None, 0]) & (query_spans[..., :, None, 1] <= stops)


def _pair(first, second) -> jax.Array:
    first, second = jnp.broadcast_arrays(jnp.asarray(first), jnp.asarray(second))
    return jnp.stack([first, second], axis=-1).astype(jnp.int32)


def causal(positions: jax.Array) -> Spans:
    """Each token sees the tokens at its own and earlier positions: look `(p, p)`, live `(p, forever)`.

    Args:
      positions: int32 `[B, T]`.
    """
    return Spans(_pair(positions, positions), _pair(positions, FOREVER))


def full(positions: jax.Array) -> Spans:
    """All tokens see one another: look `(0, 0)`, live `(0, forever)`; `positions` `[B, T]` gives the shape."""
    zero = jnp.zeros_like(positions)
    return Spans(_pair(zero, zero), _pair(zero, FOREVER))


def block_causal(blocks: jax.Array) -> Spans:
    """Each token sees its own block and all earlier ones: `causal` over block numbers `[B, T]`."""
    return causal(blocks)


def window(positions: jax.Array, width: int | jax.Array) -> Spans:
    """Each token sees itself and the `width - 1` positions before it: live `(p, p + width - 1)`.

    Args:
      positions: int32 `[B, T]`.
      width: positions in the window, the token's own included; at least 1.

    Raises:
      ValueError: if `width` is a Python integer below 1.
    """
    if isinstance(width, int) and width < 1:
        raise ValueError(f"window width must be at least 1, got {width}")
    return Spans(_pair(positions, positions), _pair(positions, positions + width - 1))


def ancestors(parents: jax.Array) -> jax.Array:
    """Ancestor matrix of forests: bool `[B, N, N]`, `[b, n, m]` true iff m is n or an ancestor of n.

    Args:
      parents: int32 `[B, N]`; -1 marks a root and every other parent comes before its child.
    """
    nodes = parents.shape[-1]
    reach = jnp.eye(nodes, dtype=bool) | (parents[..., None] == jnp.arange(nodes))
    for _ in range(max(nodes - 1, 1).bit_length()):  # squaring doubles the path length covered
        reach = jnp.matmul(reach.astype(jnp.float32), reach.astype(jnp.float32)) > 0
    return reach


def tree(parents: jax.Array, start: jax.Array, valid: jax.Array | None = None) -> Spans:
    """Each node of a forest sees its ancestors and itself, and every committed causal key before `start`.

    A node with pre-order number n and subtree size s sees with `(n, n)` and is seen over `(n, n + s - 1)`: the
    numbers of a subtree are consecutive, so a query lies in that interval iff it is a descendant.

    Args:
      parents: int32 `[N]` or `[B, N]`; -1 marks a root; a parent comes before its children.
      start: int32 `[B]`, the number of the first root: the length of the row, so that committed keys
        `(p, forever)`, p < length, stay visible.
      valid: bool `[B, N]`; nodes that do not exist are seen by nobody. A child of one must not exist either.
    """
    start = jnp.asarray(start)
    parents = jnp.broadcast_to(parents, (*start.shape, parents.shape[-1]))
    within = ancestors(parents)  # [B, N, N]: column m is m's subtree
    if valid is not None:
        within &= valid[..., :, None] & valid[..., None, :]
    sizes = within.sum(-2)
    siblings = parents[..., :, None] == parents[..., None, :]
    earlier = siblings & jnp.tri(parents.shape[-1], k=-1, dtype=bool)
    # Numbers before a node: its proper ancestors, and the subtrees of earlier siblings of it and of its ancestors.
    before = jnp.where(earlier, sizes[..., None, :], 0).sum(-1)
    numbers = jnp.where(within, before[..., None, :], 0).sum(-1) + within.sum(-1) - 1
    numbers = start[..., None] + jnp.maximum(numbers, 0)
    spans = Spans(_pair(numbers, numbers), _pair(numbers, numbers + sizes - 1))
    return spans if valid is None else spans.where(valid)


def parents(query_spans: jax.Array, key_spans: jax.Array) -> jax.Array:
    """The new token before each new token: what a recurrent network continues from. The inverse of `tree`.

        parent(t) = the last token, in the order of numbers, that t sees among those numbered before it

    For spans of which each token sees a path: `causal`, `tree`, `forest`. They say all that parents do, so inputs need
    not carry both, and could not contradict themselves. Tokens are sorted and candidates chased: no matrix, no work
    beyond the sort for a causal sequence, and a few rounds for a tree.

    Args:
      query_spans: int32 `[B, T, 2]`.
      key_spans: int32 `[B, T, 2]`; tokens that nobody sees are nobody's parent.

    Returns:
      int32 `[B, T]`; -1 for a token that continues the cache.
    """
    numbers, stops = key_spans[..., 0], key_spans[..., 1]
    order = jnp.argsort(numbers, axis=-1, stable=True)
    take = lambda values, at: jnp.take_along_axis(values, jnp.maximum(at, 0), axis=-1)
    ordered, ends = take(numbers, order), take(stops, order)
    asked = query_spans[..., 0]
    before = jax.vmap(lambda keys, values: jnp.searchsorted(keys, values, side="left"))
    # Candidates, as places in the sorted order: of each token in that order, and of each query.
    inner = before(ordered, jnp.minimum(ordered, FOREVER - 1)).astype(jnp.int32) - 1
    found = before(ordered, asked).astype(jnp.int32) - 1
    over = lambda at, number: (at >= 0) & (take(ends, at) < number)

    def chase(state):
        inner, found = state
        above = lambda at, number: jnp.where(over(at, number), take(inner, at), at)
        return above(inner, ordered), above(found, asked)

    def left(state):
        inner, found = state
        # Unseen tokens come last in the order, with ends before everything: nobody chases from them.
        return (over(inner, ordered) & (ordered < FOREVER)).any() | over(found, asked).any()

    _, found = jax.lax.while_loop(left, chase, (inner, found))
    return jnp.where(found >= 0, take(order, found), -1).astype(jnp.int32)


def forest(parents: jax.Array, start: jax.Array, valid: jax.Array | None = None) -> Spans:
    """Several trees side by side (several -1 parents); trees do not see one another. See `tree`."""
    return tree(parents, start, valid)


def two_stream(ranks: jax.Array, visible: jax.Array | int = 0) -> tuple[Spans, Spans]:
    """Spans of an any-subset model: content rows, and query rows that predict each rank.

    Content of rank r has the spans `(r, r)` and `(r, forever)`; a query of rank r sees with `(r - 1, r - 1)`, so that
    it sees ranks below r, and is seen by nobody. The prompt, ranks below `visible`, sees itself whole: its content
    sees with `(visible - 1, visible - 1)`.

    Args:
      ranks: int32 `[B, T]`, the place of each token in the decoding order.
      visible: ranks that belong to the prompt, an integer or int32 `[B, 1]`.

    Returns:
      `(content, query)`, spans `[B, T, 2]` each.
    """
    empty = jnp.broadcast_to(jnp.asarray(EMPTY), (*ranks.shape, 2))
    query_spans = jnp.maximum(ranks, visible - 1)
    content = Spans(_pair(query_spans, query_spans), _pair(ranks, FOREVER))
    return content, Spans(_pair(ranks - 1, ranks - 1), empty)


def fork_join(forward: jax.Array, backward: jax.Array) -> Spans:
    """Parallel branches that do not see one another, and a join that sees them all.

    With x a token's place when the branches are laid out in order and y its place when the branches are laid out in
    reverse order, a token precedes another in the series-parallel graph iff both x and y do. Its span, as query and
    as key, is `(x, -y)`.

    Args:
      forward: int32 `[B, T]`, x.
      backward: int32 `[B, T]`, y.
    """
    span = _pair(forward, -backward)
    return Spans(span, span)
