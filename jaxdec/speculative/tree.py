"""Draft trees: what drafters propose and verifiers judge.

Legend: B rows, N draft nodes, T = N + 1 scored tokens (the pending token, then the nodes), D depth, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import visibility


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DraftTree:
    """Proposed continuations of each row.

    Attributes:
      tokens: int32 `[B, N]`.
      parents: int32 `[B, N]`; -1 hangs off the pending token, and every other parent comes before its child.
      mask: bool `[B, N]`, which nodes exist; a child of a node that does not exist does not exist.
      q: float32 `[B, N, V]`, log-probabilities of the law that each node was *really drawn from*; None for
        nodes chosen deterministically (argmax, n-gram, table), whose law is one-hot.
      known: float32 `[B, K, V]`, the target's own logits after the first K scored tokens, where the drafter has asked
        the target: node i <= K is then a draw from the target's law and is accepted as it stands. None for K = 0.
      depth: D, the longest path, static.
    """

    tokens: jax.Array
    parents: jax.Array
    mask: jax.Array
    q: jax.Array | None
    known: jax.Array | None = None
    depth: int = dataclasses.field(default=0, metadata={"static": True})

    @classmethod
    def chain(
        cls,
        tokens: jax.Array,
        mask: jax.Array | None = None,
        q: jax.Array | None = None,
        known: jax.Array | None = None,
    ) -> "DraftTree":
        """A single path: node i follows node i - 1.

        Args:
          tokens: int32 `[B, N]`.
          mask: bool `[B, N]`, a prefix of each row; all true if not given.
          q: float32 `[B, N, V]` or None.
          known: float32 `[B, K, V]` or None.
        """
        mask = jnp.ones(tokens.shape, bool) if mask is None else mask
        parents = jnp.broadcast_to(jnp.arange(tokens.shape[1]) - 1, tokens.shape)
        return cls(tokens.astype(jnp.int32), parents, mask, q, known, tokens.shape[1])

    @property
    def settled(self) -> int:
        """K, the leading nodes that the target drew itself."""
        return 0 if self.known is None else self.known.shape[1]

    @property
    def rooted(self) -> jax.Array:
        """Parents of the T scored tokens, int32 `[B, T]`: the pending token is the root."""
        root = jnp.full((self.tokens.shape[0], 1), -1, jnp.int32)
        return jnp.concatenate([root, self.parents + 1], axis=1)

    @property
    def scored(self) -> jax.Array:
        """Which of the T scored tokens exist, bool `[B, T]`."""
        return jnp.pad(self.mask, ((0, 0), (1, 0)), constant_values=True)

    def lineage(self) -> jax.Array:
        """bool `[B, T, T]`: `[b, n, m]` iff scored token m is n or an ancestor of n."""
        return visibility.ancestors(self.rooted)


def check_parents(parents: np.ndarray) -> None:
    """Raises `ValueError` naming the first node of `parents [N]` whose parent does not come before it."""
    for node, parent in enumerate(np.asarray(parents)):
        if not -1 <= parent < node:
            raise ValueError(f"node {node} has parent {parent}; a parent comes before its child")
