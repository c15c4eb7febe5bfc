"""Named shapes of verification, for tests and benchmarks."""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Case:
    """A shape of draft tree and vocabulary.

    Attributes:
      name: of the case.
      batch: B.
      parents: of each node, -1 for a child of the pending token.
      depth: D.
      vocab_size: V.
      bans: whether some tokens are banned.
    """

    name: str
    batch: int
    parents: tuple[int, ...]
    depth: int
    vocab_size: int
    bans: bool = False


def _chain(length: int) -> tuple[int, ...]:
    return tuple(range(-1, length - 1))


_BUSHY = (-1, -1, -1, 0, 0, 1, 2, 3, 3, 5)

SMALL = (
    Case("chain", 4, _chain(3), 3, 260),
    Case("tree", 4, _BUSHY, 3, 128, bans=True),
    Case("blocks", 2, (-1, -1, 0, 0, 1), 2, 5000, bans=True),
)
REAL = (
    Case("chain of 4", 8, _chain(4), 4, 128256),
    Case("tree of 63", 8, tuple((node - 1) // 2 - 1 for node in range(1, 64)), 6, 128256),
    Case("banned tokens", 8, _chain(8), 8, 151936, bans=True),
    Case("ragged vocabulary", 3, _chain(4), 4, 50257),
)


def walk_shapes(case: Case) -> tuple[jax.ShapeDtypeStruct, ...]:
    """The arguments of `walk`."""
    shape = jax.ShapeDtypeStruct
    batch, nodes, vocab_size = case.batch, len(case.parents), case.vocab_size
    tables = (shape((batch, vocab_size), jnp.bool_),) if case.bans else ()
    return (
        shape((batch, nodes + 1, vocab_size), jnp.float32),
        shape((batch, nodes), jnp.int32),
        shape((batch, nodes), jnp.int32),
        shape((batch, nodes), jnp.bool_),
        shape((batch, case.depth + 1, 2), jnp.uint32),
        shape((batch,), jnp.float32),
        *tables,
    )


def ratio_shapes(case: Case) -> tuple[jax.ShapeDtypeStruct, ...]:
    """The arguments of `ratio_walk`, with laws of the drafts."""
    logits, tokens, parents, mask, _, *settings = walk_shapes(case)
    q = jax.ShapeDtypeStruct((*tokens.shape, case.vocab_size), jnp.float32)
    uniforms = jax.ShapeDtypeStruct(tokens.shape, jnp.float32)
    keys = jax.ShapeDtypeStruct((case.batch, 2), jnp.uint32)
    return (logits, q, tokens, parents, mask, uniforms, keys, *settings)
