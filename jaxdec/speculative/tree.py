"""Draft trees: what drafters propose and verifiers judge.

Legend: B rows, N draft nodes, T = N + 1 scored tokens (the pending token, then the nodes), D depth, V vocabulary.
"""

import dataclasses
import heapq
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import visibility
from jaxdec.arguments import typed

MOST_NODES = 1 << 12
"""Nodes of a draft tree at most: a step compares each with each."""

MOST_SLOTS = 1 << 24
"""The largest size of any table of a drafter."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DraftTree:
    """Proposed continuations of each row.

    Siblings stand in the order in which they were drawn, and are judged in that order. They may carry the same token,
    as those of independent chains do; then the children of all of them hang off the first.

    Attributes:
      tokens: int32 `[B, N]`.
      parents: int32 `[B, N]`; -1 hangs off the pending token, and every other parent comes before its child.
      mask: bool `[B, N]`, which nodes exist; a child of a node that does not exist does not exist.
      q: float32 `[B, N, V]`, log-probabilities of the law that each node was *really drawn from* given its earlier
        siblings: the same for all siblings that were drawn with replacement; without, that of the k-th lacks those
        before it. The law of a node chosen deterministically (argmax, n-gram, table) is one-hot; None if all are.
      target_logits: float32 `[B, K, V]`, the target's own after the first K scored tokens, where the drafter has asked
        the target: node i <= K is then a draw from the target's law and is accepted as it stands. None for K = 0.
      depth: D, the longest path, static.
    """

    tokens: jax.Array
    parents: jax.Array
    mask: jax.Array
    q: jax.Array | None
    target_logits: jax.Array | None = None
    depth: int = dataclasses.field(default=0, metadata={"static": True})

    @classmethod
    def chain(
        cls,
        tokens: jax.Array,
        mask: jax.Array | None = None,
        q: jax.Array | None = None,
        target_logits: jax.Array | None = None,
    ) -> "DraftTree":
        """A single path: node i follows node i - 1.

        Args:
          tokens: int32 `[B, N]`.
          mask: bool `[B, N]`, a prefix of each row; all true if not given.
          q: float32 `[B, N, V]` or None.
          target_logits: float32 `[B, K, V]` or None.
        """
        mask = jnp.ones(tokens.shape, bool) if mask is None else mask
        parents = jnp.broadcast_to(jnp.arange(tokens.shape[1]) - 1, tokens.shape)
        return cls(tokens, parents, mask, q, target_logits, tokens.shape[1])

    @property
    def target_drawn(self) -> int:
        """K, the leading nodes that the target drew itself."""
        return 0 if self.target_logits is None else self.target_logits.shape[1]

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

    def check(
        self, author: str, batch: int, nodes: int, depth: int, target_drawn: int, vocab_size: int
    ) -> None:
        """Raises `ValueError` naming the first array that is not of the type and the shape that was promised.

        Args:
          author: who proposed the tree.
          batch: B.
          nodes: N.
          depth: D.
          target_drawn: K.
          vocab_size: V.
        """
        whole, laws = (batch, nodes), (batch, nodes, vocab_size)
        drawn = (batch, target_drawn, vocab_size)
        arrays = [
            ("tokens", self.tokens, jnp.integer, whole, True),
            ("parents", self.parents, jnp.integer, whole, True),
            ("mask", self.mask, jnp.bool_, whole, True),
            ("q", self.q, jnp.floating, laws, False),
            ("target_logits", self.target_logits, jnp.floating, drawn, target_drawn > 0),
        ]
        for name, array, kind, shape, needed in arrays:
            if array is None and not needed:
                continue
            if array is None or array.shape != shape or not jnp.issubdtype(array.dtype, kind):
                got = "None" if array is None else f"{array.dtype} {list(array.shape)}"
                raise ValueError(
                    f"{author} must propose {name} of type {kind.__name__} and shape {list(shape)}, got {got}"
                )
        if self.depth != depth:
            raise ValueError(f"{author} promises a depth of {depth}, but proposes {self.depth}")

    def within(self, vocab_size: int) -> "DraftTree":
        """The same tree, int32, less the nodes that are none and all that hangs off them.

        A node is none if its token is outside of the vocabulary, if its parent does not come before it (so no cycle is
        left), if the parent does not exist, or if it is deeper than the tree says.
        """
        placed = (self.parents >= -1) & (self.parents < jnp.arange(self.parents.shape[1]))
        legal = self.mask & placed & (self.tokens >= 0) & (self.tokens < vocab_size)
        tree = dataclasses.replace(
            self,
            tokens=jnp.where(legal, self.tokens, 0).astype(jnp.int32),
            parents=jnp.where(placed, self.parents, -1).astype(jnp.int32),
        )
        lineage, reached = tree.lineage(), jnp.pad(legal, ((0, 0), (1, 0)), constant_values=True)
        exists = (lineage <= reached[:, None]).all(-1) & (lineage.sum(-1) <= self.depth + 1)
        return dataclasses.replace(tree, mask=exists[:, 1:])


@dataclasses.dataclass(frozen=True)
class RankTree:
    """A fixed shape for trees whose nodes are the r-th best children of their parents.

    Attributes:
      parents: of each node, -1 for a root; a parent comes before its children.
      depths: of each node, 1 for a root.
      ranks: of each node among its siblings, 0 for the best.
      reached: the estimated probability that a verifier gets to each node; 1 where nothing is known.
    """

    parents: tuple[int, ...]
    depths: tuple[int, ...]
    ranks: tuple[int, ...]
    reached: tuple[float, ...]

    @classmethod
    @typed
    def of(cls, parents: Sequence[int], *, budget: int | None = None) -> "RankTree":
        """The tree with these parents; siblings are ranked in their order.

        Args:
          parents: of each node, -1 for a root.
          budget: the most nodes that are allowed.

        Raises:
          ValueError: for no node at all, more than the budget, or a node whose parent does not come before it (so that
            no cycle is possible); the message names the first.
        """
        parents = tuple(int(parent) for parent in parents)
        if not parents:
            raise ValueError("a draft tree has at least 1 node, got 0")
        check_sizes(MOST_NODES, nodes=len(parents))
        if budget is not None and len(parents) > budget:
            raise ValueError(
                f"node {budget} is past the budget of {budget}: got {len(parents)} nodes"
            )
        check_parents(np.array(parents))
        depths: list[int] = []
        for parent in parents:
            depths.append(1 if parent < 0 else depths[parent] + 1)
        ranks = tuple(parents[:node].count(parent) for node, parent in enumerate(parents))
        return cls(parents, tuple(depths), ranks, (1.0,) * len(parents))

    @classmethod
    @typed
    def chain(cls, length: int) -> "RankTree":
        """A single path of `length` nodes, at least 1."""
        check_sizes(MOST_NODES, length=length)
        return cls.of(range(-1, length - 1))

    @classmethod
    @typed
    def branching(cls, factors: Sequence[int], *, budget: int | None = None) -> "RankTree":
        """The tree whose nodes at depth d all have `factors[d]` children.

        Raises:
          ValueError: for a factor below 1, or more nodes than the budget.
        """
        parents: list[int] = []
        level = [-1]
        for depth, factor in enumerate(factors):
            if factor < 1:
                raise ValueError(f"factor {depth} must be at least 1, got {factor}")
            check_sizes(MOST_NODES, nodes=len(parents) + len(level) * factor)
            parents += [parent for parent in level for _ in range(factor)]
            level = list(range(len(parents) - len(level) * factor, len(parents)))
        return cls.of(parents, budget=budget)

    @classmethod
    @typed
    def best(
        cls, depth: int, nodes: int, rates: tuple[float, ...], *, first_certain: bool = False
    ) -> "RankTree":
        """The tree of most expected accepted tokens, if a candidate of rank r is right with probability `rates[r]`.

        A node is reached with the product of the rates along its path; the best tree holds the nodes of the highest
        products, found best first.

        Args:
          depth: D, the deepest node.
          nodes: N, at least D; N = D gives the chain of the best candidates.
          rates: in descending order, the sum at most 1.
          first_certain: whether the first draft is right for certain.

        Raises:
          ValueError: if `depth < 1`, `nodes < depth`, or no tree of that depth has so many nodes.
        """
        check_sizes(MOST_NODES, depth=depth, nodes=max(nodes, 1))
        if nodes < depth:
            raise ValueError(f"a tree of depth {depth} has at least {depth} nodes, got {nodes}")
        if nodes == depth:
            rates = rates[:1]
        order = itertools.count()
        heap: list[tuple[float, int, int, int, int]] = []  # probability, age, depth, rank, parent

        def push(probability: float, below: int, parent: int) -> None:
            sure = first_certain and below == 1
            for rank, rate in enumerate((1.0,) if sure else rates):
                heapq.heappush(heap, (-probability * rate, next(order), below, rank, parent))

        push(1.0, 1, -1)
        found: list[tuple[int, int, int, float]] = []
        while len(found) < nodes:
            if not heap:
                raise ValueError(
                    f"a tree of depth {depth} with {len(rates)} candidates has at most {len(found)} nodes, got {nodes}"
                )
            probability, _, below, rank, parent = heapq.heappop(heap)
            found.append((parent, below, rank, -probability))
            if below < depth:
                push(-probability, below + 1, len(found) - 1)
        return cls(*zip(*found, strict=True))

    @property
    def stops(self) -> np.ndarray:
        """The estimated probability `[N + 1]` that a path ends at each scored token, the pending one first."""
        reached = np.array([1.0, *self.reached])
        for parent, probability in zip(self.parents, self.reached, strict=True):
            reached[parent + 1] -= probability
        return reached


def keep_best(
    scores: jax.Array, tokens: jax.Array, above: jax.Array, count: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The tree of the best of one row's M candidates: of equal scores the first.

    Args:
      scores: `[M]`, 0 for candidates that are none; none is above that of what it hangs off, or stands before it.
      tokens: int32 `[M]`.
      above: int32 `[M]`, the candidate that each hangs off; below 0 for the pending token.
      count: N.

    Returns:
      `(tokens, parents, mask)`, `[N]` each, parents first.
    """
    size = scores.shape[0]
    order = jnp.argsort(-scores, stable=True).astype(jnp.int32)
    place = jnp.zeros_like(order).at[order].set(jnp.arange(size, dtype=jnp.int32))
    kept = jnp.pad(order, (0, max(count - size, 0)))[:count]
    mask = (scores[kept] > 0) & (jnp.arange(count) < size)
    owner = above[kept]
    return tokens[kept], jnp.where(mask & (owner >= 0), place[owner], -1), mask


def check_parents(parents: np.ndarray) -> None:
    """Raises `ValueError` naming the first node of `parents [N]` whose parent does not come before it."""
    for node, parent in enumerate(np.asarray(parents).tolist()):
        if not -1 <= parent < node:
            raise ValueError(f"node {node} has parent {parent}; a parent comes before its child")


def check_sizes(most: int = MOST_SLOTS, /, **sizes: int) -> None:
    """Raises `ValueError` naming the first size below 1 or above `most`."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
        if size > most:
            raise ValueError(f"{name} must be at most {most}, got {size}")
