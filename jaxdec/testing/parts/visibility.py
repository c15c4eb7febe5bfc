"""Spans and orders against rules that are written out pair by pair."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import visibility
from jaxdec.model import Order, prompt_inputs
from jaxdec.visibility import Spans

POSITIONS = np.array([[0, 1, 2, 3, 4, 5], [7, 3, 9, 3, 0, 1]])


def assert_sees(
    query_spans: jax.Array,
    key_spans: jax.Array,
    rule: Callable[[int, int, int], Any],
    what: str,
) -> None:
    """Asserts that query i of row b sees key j iff `rule(b, i, j)`."""
    seen = np.asarray(visibility.dense(query_spans, key_spans))
    for b, i, j in np.ndindex(seen.shape):
        if bool(seen[b, i, j]) != bool(rule(b, i, j)):
            verb = "sees" if seen[b, i, j] else "does not see"
            raise AssertionError(f"{what}: in row {b}, token {i} {verb} token {j}")


def _sees(spans: Spans, rule: Callable[[int, int, int], Any], what: str) -> None:
    assert_sees(spans.query_spans, spans.key_spans, rule, what)


def check_visibility() -> None:
    """Every constructor of spans renders the pattern that it is named after."""
    p = POSITIONS
    at = jnp.asarray(p)
    before = lambda b, i, j: p[b, j] <= p[b, i]
    _sees(visibility.causal(at), before, "causal")
    _sees(visibility.full(at), lambda b, i, j: True, "full")
    _sees(visibility.block_causal(at // 2), lambda b, i, j: p[b, j] // 2 <= p[b, i] // 2, "blocks")
    for width in (1, 2, 4):
        near = lambda b, i, j, width=width: 0 <= p[b, i] - p[b, j] < width
        _sees(visibility.window(at, width), near, f"window of {width}")
    valid = np.array([[1, 1, 0, 1, 0, 1], [0, 1, 1, 1, 1, 0]], bool)
    hidden = visibility.causal(at).where(jnp.asarray(valid))
    _sees(hidden, lambda b, i, j: valid[b, j] and before(b, i, j), "hidden tokens")
    back = np.array([[5, 0, 3, 3, 1, 2], [0, 1, 2, 3, 4, 5]])
    both = lambda b, i, j: p[b, j] <= p[b, i] and back[b, j] <= back[b, i]
    _sees(visibility.fork_join(at, jnp.asarray(back)), both, "fork and join")
    _check_trees()
    _check_two_streams()


def _check_trees() -> None:
    rng = np.random.default_rng(0)
    nodes, rows = 13, 6
    parents = np.array(
        [[rng.integers(-1, n) if n else -1 for n in range(nodes)] for _ in range(rows)]
    )
    parents[0] = np.arange(nodes) - 1  # a chain, the deepest tree
    valid = rng.random((rows, nodes)) < 0.8
    for node in range(nodes):
        above = parents[:, node]
        valid[:, node] &= (above < 0) | valid[np.arange(rows), above]

    def lineage(b: int, node: int) -> list[int]:
        found = [node]
        while parents[b, found[-1]] >= 0:
            found.append(parents[b, found[-1]])
        return found

    start = np.arange(rows) * 3 + 2
    spans = visibility.tree(jnp.asarray(parents), jnp.asarray(start), jnp.asarray(valid))
    real = lambda b, i, j: j in lineage(b, i) and valid[b, j]
    # What a node that does not exist would see is nobody's matter.
    _sees(spans, lambda b, i, j: real(b, i, j) if valid[b, i] else _as_is(spans, b, i, j), "tree")
    full = visibility.tree(jnp.asarray(parents), jnp.asarray(start))
    _sees(full, lambda b, i, j: j in lineage(b, i), "tree without gaps")
    size = int(start.max()) + nodes
    stored = visibility.causal(jnp.broadcast_to(jnp.arange(size), (rows, size)))
    # Committed tokens before the root are seen by all nodes; what may be written behind it, by none at the root.
    assert_sees(
        full.query_spans[:, :1],
        stored.key_spans,
        lambda b, i, j: j <= start[b],
        "committed tokens seen from the root of a tree",
    )
    assert_sees(
        full.query_spans,
        stored.key_spans[:, : start.min()],
        lambda b, i, j: True,
        "committed tokens seen from a tree",
    )


def _as_is(spans: Spans, b: int, i: int, j: int) -> bool:
    return bool(visibility.dense(spans.query_spans[b], spans.key_spans[b])[i, j])


def _check_two_streams() -> None:
    ranks = jnp.asarray(np.array([[2, 0, 4, 1, 3, 5], [0, 1, 2, 3, 4, 5]]))
    visible = np.array([[3], [1]])
    r = np.asarray(ranks)
    content, query = visibility.two_stream(ranks, jnp.asarray(visible))
    known = lambda b, i: max(r[b, i], visible[b, 0] - 1)
    _sees(content, lambda b, i, j: r[b, j] <= known(b, i), "content of two streams")
    assert_sees(
        query.query_spans,
        content.key_spans,
        lambda b, i, j: r[b, j] < r[b, i],
        "queries of two streams",
    )
    assert_sees(query.query_spans, query.key_spans, lambda b, i, j: False, "queries as keys")


def check_orders() -> None:
    """Ranks have their places, past the end that of the last; prompts are read as the order of generation says."""
    rng = np.random.default_rng(1)
    size, visible = np.array([9, 6, 4]), np.array([4, 1, 3])
    places = np.zeros((3, 12), np.int32)
    for b in range(3):
        places[b, : size[b]] = rng.permutation(size[b])
    places[:, :][np.arange(12) >= size[:, None]] = 99  # padding, which nobody may read
    given = [jnp.asarray(x, jnp.int32) for x in (places, visible, size)]
    order = Order(given[0], given[1], given[2])
    ranks = np.broadcast_to(np.arange(15), (3, 15))
    want = np.stack([places[b][np.minimum(ranks[b], size[b] - 1)] for b in range(3)])
    np.testing.assert_array_equal(order.at(jnp.asarray(ranks)), want, "places of ranks")
    cube = jnp.asarray(ranks.reshape(3, 5, 3))
    np.testing.assert_array_equal(order.at(cube), want.reshape(3, 5, 3), "places of ranks")
    asked = order.ask(jnp.asarray(ranks), jnp.zeros((3, 15, 2), jnp.int32))
    np.testing.assert_array_equal(asked.positions, want, "places of queries")
    np.testing.assert_array_equal(asked.size, size, "sizes of queries")

    tokens, lengths = jnp.asarray(rng.integers(0, 5, (3, 7))), jnp.asarray([4, 1, 3])
    n = np.asarray(lengths)
    whole = prompt_inputs(tokens, lengths, order)
    _sees(
        Spans(whole.query_spans[:, :1], whole.key_spans),
        lambda b, i, j: j < n[b],
        "the first token of a prompt with an order",
    )
    # What a token of the padding sees is nobody's matter.
    sees = lambda b, i, j: j < n[b] if i < n[b] else _as_is(_spans(whole), b, i, j)
    _sees(_spans(whole), sees, "a prompt with an order")
    filled = prompt_inputs(tokens, jnp.asarray(size), order, visible=order.visible)
    known = lambda b, i: max(i, visible[b] - 1)
    _sees(
        _spans(filled),
        lambda b, i, j: j <= known(b, i) and j < size[b],
        "a text with an order",
    )
    causal = prompt_inputs(tokens, lengths, None)
    _sees(
        _spans(causal),
        lambda b, i, j: (j <= i and j < n[b] - 1) or _pending(b, i, j, n, causal),
        "a prompt",
    )


def _pending(b, i, j, n, inputs) -> bool:
    """What the pending token and the padding see, or who sees them, is nobody's matter."""
    outside = i >= n[b] - 1 or j >= n[b] - 1
    return outside and _as_is(_spans(inputs), b, i, j)


def _spans(inputs) -> Spans:
    return Spans(inputs.query_spans, inputs.key_spans)
