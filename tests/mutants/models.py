"""Faults of the model wrappers and of the transformer."""

from tests.mutants.mutant import Mutant

TWO_STREAM, ROWS = "jaxdec/model/two_stream.py", "jaxdec/model/masked_rows.py"
NEXT = "jaxdec/model/next_token.py"
ATTENTION = "pallas_kernels/span_attention/reference.py"

MUTANTS = [
    Mutant(
        "queries see one another",
        TWO_STREAM,
        "key_spans=join(inputs.key_spans, nobody)",
        "key_spans=join(inputs.key_spans, queries.query_spans)",
        "queries of one span see one another",
    ),
    Mutant(
        "queries stand one place early",
        TWO_STREAM,
        "positions=join(inputs.positions, queries.positions)",
        "positions=join(inputs.positions, queries.positions - 1)",
        "a query has the position before its own",
    ),
    Mutant(
        "masks are emitted",
        TWO_STREAM,
        "jnp.where(jnp.arange(logits.shape[-1]) == token, -jnp.inf, logits)",
        "logits",
        "the mask token has mass",
    ),
    Mutant(
        "a mask past the end",
        ROWS,
        "exists = places < jnp",
        "exists = places <= jnp",
        "a position past the end of the sequence is seen as a mask",
    ),
    Mutant(
        "masked rows see everything",
        ROWS,
        "at = jnp.where(visible, positions, length)",
        "at = positions",
        "a query's canvas holds tokens that it must not see",
    ),
    Mutant(
        "a mask does not see its token",
        NEXT,
        "between = query_spans + 1",
        "between = query_spans - 1",
        "the mask after a token does not see it",
    ),
    Mutant(
        "tokens see masks",
        NEXT,
        "jnp.where(padding, visibility.EMPTY, between)",
        "jnp.where(padding, visibility.EMPTY, join(query_spans, query_spans)[:, :width])",
        "tokens see the mask that stands after them",
    ),
    Mutant(
        "subtrees end early",
        NEXT,
        "far // 2 - 1) + 1)",
        "far // 2 - 1))",
        "the mask after the last node of a subtree does not see its ancestors",
    ),
    Mutant(
        "mask stands on its token",
        NEXT,
        "inputs.positions + 1)",
        "inputs.positions)",
        "the mask after a token has the token's own position",
    ),
    Mutant(
        "keys not rotated",
        "jaxdec/models/layers/attention.py",
        "self.kind.rotary(keys, positions)",
        "self.kind.rotary(keys, positions - positions[:, :1])",
        "keys are rotated by their place among the new tokens",
    ),
    Mutant(
        "attention window one too wide",
        ATTENTION,
        "part.positions[:, None]) < window)",
        "part.positions[:, None]) <= window)",
        "attention reaches one position further back",
    ),
    Mutant(
        "attention not normalised over parts",
        ATTENTION,
        "total = sum(w.sum(-1, keepdims=True) for w in weights)",
        "total = weights[-1].sum(-1, keepdims=True)",
        "the weights of cached keys are left out of the sum",
    ),
]
