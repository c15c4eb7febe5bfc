"""Faults of spans, orders and queries: who sees whom."""

from tests.mutants.mutant import Mutant

SPANS, ORDER = "jaxdec/visibility.py", "jaxdec/model/order.py"

MUTANTS = [
    Mutant(
        "query sees itself",
        SPANS,
        "_pair(ranks - 1, ranks - 1)",
        "_pair(ranks, ranks)",
        "a query sees the token that it is asked for",
    ),
    Mutant(
        "query sees the next rank",
        ORDER,
        "queries = order.ask(follows, query_spans)",
        "queries = order.ask(follows, query_spans + 1)",
        "a query sees the token that it is asked for, where it stands in the same forward",
    ),
    Mutant(
        "causal prompt of an order",
        SPANS,
        "query_spans = jnp.maximum(ranks, visible - 1)",
        "query_spans = ranks + 0 * visible",
        "a prompt with an order does not see itself whole",
    ),
    Mutant(
        "prompt of an order one short",
        ORDER,
        "visibility.two_stream(ranks, visible[:, None])",
        "visibility.two_stream(ranks, visible[:, None] - 1)",
        "a prompt with an order does not see its last token",
    ),
    Mutant(
        "window one too wide",
        SPANS,
        "positions + width - 1)",
        "positions + width)",
        "a window holds one position more",
    ),
    Mutant(
        "rank past the end",
        ORDER,
        "(1,) * (ranks.ndim - 1)) - 1)",
        "(1,) * (ranks.ndim - 1)))",
        "a rank past the end has a place of the padding",
    ),
    Mutant(
        "rank clipped early",
        ORDER,
        "(1,) * (ranks.ndim - 1)) - 1)",
        "(1,) * (ranks.ndim - 1)) - 2)",
        "the last rank has the place of the one before",
    ),
    Mutant(
        "token does not see itself",
        SPANS,
        "(starts <= query_spans",
        "(starts < query_spans",
        "a token does not see its own position",
    ),
    Mutant(
        "subtree one too large",
        SPANS,
        "numbers + sizes - 1)",
        "numbers + sizes)",
        "a node is seen by the one numbered after its subtree",
    ),
    Mutant(
        "ancestors up to a bound",
        SPANS,
        "range(max(nodes - 1, 1).bit_length())",
        "range(max(nodes // 4, 1).bit_length())",
        "deep nodes do not see their first ancestors",
    ),
    Mutant(
        "join sees one branch",
        SPANS,
        "_pair(forward, -backward)",
        "_pair(forward, backward)",
        "branches see one another",
    ),
    Mutant(
        "hidden tokens stay visible",
        SPANS,
        "jnp.where(valid[..., None], self.key_spans, EMPTY)",
        "self.key_spans",
        "padding is seen",
    ),
    Mutant(
        "tree starts one late",
        SPANS,
        "numbers = start[..., None] + jnp.maximum(numbers, 0)",
        "numbers = start[..., None] + 1 + jnp.maximum(numbers, 0)",
        "the root of a tree is numbered after the place that it stands at",
    ),
    Mutant(
        "queries one place early",
        ORDER,
        "follows = ranks + 1",
        "follows = ranks",
        "the law of a token is asked for at the place before it",
    ),
    Mutant(
        "padding of an order is seen",
        ORDER,
        "content = content.where(places < lengths[:, None])",
        "content = content.where(places <= lengths[:, None])",
        "a token of the padding is part of the prompt",
    ),
    Mutant(
        "sizes count nodes that do not exist",
        SPANS,
        "within &= valid[..., :, None] & valid[..., None, :]",
        "within &= valid[..., None, :] | ~valid[..., None, :]",
        "numbers leave room for nodes that do not exist",
        equivalent="numbers stay nested in the same way, and the keys of such nodes are hidden afterwards",
    ),
    Mutant(
        "pending token of a prompt is visible",
        ORDER,
        "valid=places < lengths[:, None] - 1)",
        "valid=places < lengths[:, None])",
        "the last token of a causal prompt is a key of its own forward",
        equivalent="only tokens at and after it could see it, and nothing of them is committed or read",
    ),
]
