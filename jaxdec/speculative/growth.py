"""How a draft tree grows, level by level, from the laws of its nodes.

Whoever drafts (a small model, heads on the target, a table) knows laws: what may follow a node. A *growth rule* turns
them into nodes: a chain, independent chains, a fixed shape, a beam. `grow` runs one with the other, so that n sources
of laws and m rules make n x m drafters.

Legend: B rows, D levels, F expanded nodes of a level (the frontier), C nodes drawn a level, N nodes of the tree,
V vocabulary.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.sampling import Purpose, key_at
from jaxdec.speculative.parts import Context, Drafter
from jaxdec.speculative.tree import DraftTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Frontier:
    """The nodes whose children are drawn next; at the first level slot 0 holds the pending token.

    Attributes:
      tokens: int32 `[B, F]`.
      parents: int32 `[B, F]`, the slot of each node's parent in the frontier before.
      mask: bool `[B, F]`, which exist.
      nodes: int32 `[B, F]`, their places among all nodes drawn so far; -1 for the pending token.
      value: float32 `[B, F]`, what the growth rule ranks paths by, in logarithms.
      path: float32 `[B, F]`, the log-probability of the path under the draft laws.
    """

    tokens: jax.Array
    parents: jax.Array
    mask: jax.Array
    nodes: jax.Array
    value: jax.Array
    path: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Laws:
    """What may follow each node of a frontier.

    Attributes:
      law: float32 `[B, F, V]`, warped log-probabilities.
      raw: float32 `[B, F, V]`, log-probabilities before the temperature, which rank the tokens of greedy rows.
      noise: float32 `[B, 1, V]`, Gumbel noise of this depth, for all nodes alike; `[B, F, V]` where each has its own. A
        rule by which one node's draw decides whether another exists needs the latter (`own_noise`).
      temperature: float32 `[B, 1, 1]`; 0 for greedy rows.
      shared: whether the noise is the very noise that the target's tokens are drawn with.
    """

    law: jax.Array
    raw: jax.Array
    noise: jax.Array
    temperature: jax.Array
    shared: bool = dataclasses.field(metadata={"static": True})

    @property
    def greedy(self) -> jax.Array:
        """bool `[B, 1, 1]`."""
        return self.temperature < jnp.finfo(jnp.float32).tiny

    @property
    def perturbed(self) -> jax.Array:
        """`log q + g`, `[B, F, V]`: its k largest are k draws without replacement, in order.

        In greedy rows, by the law before the temperature.
        """
        ranked = self.raw + jnp.where(self.law > -jnp.inf, 1e4, 0.0)
        return jnp.where(self.greedy, ranked, self.law + self.noise)

    @property
    def estimate(self) -> jax.Array:
        """log of how likely each token is the target's, `[B, F, V]`.

        Where noise g is shared, the target draws with the same g, and only the difference of the laws is uncertain:

            log softmax(T (log q + g)),

        whose limit for T = 0 is the law before the temperature. Else it is log q.
        """
        sampled = self.law
        if self.shared:
            sure = jnp.where(self.greedy, 0.0, self.law + self.noise)
            sampled = jax.nn.log_softmax(self.temperature * sure)
        return jnp.where(self.greedy, self.raw, sampled)

    def at(self, slots: jax.Array) -> jax.Array:
        """The laws `[B, C, V]` of the nodes in frontier slots `[B, C]`."""
        return jnp.take_along_axis(self.law, slots[..., None], axis=1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Children:
    """The nodes drawn at one level. Siblings stand in the order in which they were drawn.

    Attributes:
      tokens: int32 `[B, C]`.
      parents: int32 `[B, C]`, frontier slots.
      mask: bool `[B, C]`.
      q: float32 `[B, C, V]`, the law that each was really drawn from, given its earlier siblings; None if chosen.
      value: float32 `[B, C]`, see `Frontier`.
      path: float32 `[B, C]`, see `Frontier`.
    """

    tokens: jax.Array
    parents: jax.Array
    mask: jax.Array
    q: jax.Array | None
    value: jax.Array
    path: jax.Array


class Growth(abc.ABC):
    """A growth rule. Subclasses are frozen dataclasses, so that they compare by value; all methods are pure.

    Attributes:
      depth: D.
      frontier: F.
      drawn: C.
      nodes: N.
    """

    depth: int

    @property
    @abc.abstractmethod
    def frontier(self) -> int:
        """F."""

    @property
    def drawn(self) -> int:
        """C; as many as are expanded unless a subclass says otherwise."""
        return self.frontier

    @property
    def nodes(self) -> int:
        """N; all that are drawn unless a subclass says otherwise."""
        return self.depth * self.drawn

    @property
    def independent(self) -> bool:
        """Whether siblings are independent draws from one law; so those of a chain, which has none."""
        return self.nodes == self.depth

    @property
    def branching(self) -> int:
        """The most children of a node; the vocabulary must have as many tokens."""
        return 1

    def check(self, vocab_size: int) -> None:
        """Raises `ValueError` if a node can have more children than there are tokens."""
        if self.branching > vocab_size:
            raise ValueError(
                f"a node has up to {self.branching} children, but the vocabulary only {vocab_size} tokens"
            )

    @abc.abstractmethod
    def children(
        self, depth: jax.Array, laws: Laws, frontier: Frontier, context: Context
    ) -> Children:
        """The nodes below a frontier; `depth` counts levels from 0 and is traced."""

    def expanded(self, depth: jax.Array, children: Children) -> jax.Array:
        """int32 `[B, F]`, which of the children form the next frontier."""
        batch = children.tokens.shape[0]
        return jnp.broadcast_to(jnp.arange(self.frontier), (batch, self.frontier))

    def finish(self, tree: DraftTree, value: jax.Array) -> DraftTree:
        """The tree to propose, from all D C nodes that were drawn, level by level, and their values `[B, D C]`."""
        return tree


class Grown(Drafter):
    """A drafter whose trees grow by a rule, from laws that it knows.

    Attributes:
      growth: the rule.
    """

    growth: Growth

    @property
    def depth(self) -> int:  # type: ignore[override]
        """D."""
        return self.growth.depth

    @property
    def nodes(self) -> int:
        """N."""
        return self.growth.nodes

    @property
    def independent(self) -> bool:
        """Whether the rule draws siblings independently."""
        return self.growth.independent


def grow(
    growth: Growth,
    context: Context,
    source: Callable[[Any, jax.Array, Frontier], tuple[jax.Array, Any]],
    carry: Any,
) -> tuple[DraftTree, Any]:
    """Grows a tree.

    Args:
      growth: the rule.
      context: of the step.
      source: `(carry, depth, frontier) -> (logits [B, F, V], carry)`, what may follow each node of the frontier of a
        level (traced, counted from 0; the first holds the pending token alone).
      carry: for its first call.

    Returns:
      The tree, and the carry after the last call.
    """
    rows, warp = context.rows, context.settings.warp
    batch, size = rows.length.shape[0], growth.frontier
    vocab = context.vocab_size
    none = jnp.zeros((batch, size), jnp.int32)
    first = jnp.broadcast_to(jnp.arange(size) == 0, none.shape)
    zeros = jnp.zeros(none.shape, jnp.float32)
    pending = jnp.broadcast_to(rows.pending[:, None], none.shape)
    frontier = Frontier(pending, none, first, none - 1, zeros, zeros)
    temperature = jnp.ones((batch,)) if warp.temperature is None else warp.temperature
    temperature = jnp.broadcast_to(temperature, (batch,))[:, None, None]
    history = rows.history
    if history is not None:
        generated = jnp.broadcast_to(history.generated[:, None], (batch, size, vocab))
        history = dataclasses.replace(history, generated=generated)

    def level(state, depth):
        carry, frontier, history = state
        logits, carry = source(carry, depth, frontier)
        logits = logits.astype(jnp.float32)
        noise = jax.lax.dynamic_slice_in_dim(context.noise, depth, 1, axis=1)
        law = warp.log_probs(logits, history)
        raw = jax.nn.log_softmax(warp.penalised(logits, history))
        laws = Laws(law, raw, noise, temperature, context.shares_noise)
        children = growth.children(depth, laws, frontier, context)
        chosen = growth.expanded(depth, children)
        take = lambda x: jnp.take_along_axis(x, chosen, axis=1)
        after = Frontier(
            tokens=take(children.tokens),
            parents=take(children.parents),
            mask=take(children.mask),
            nodes=depth * growth.drawn + chosen,
            value=take(children.value),
            path=take(children.path),
        )
        if history is not None:
            counts = jnp.take_along_axis(history.generated, after.parents[..., None], axis=1)
            counts += jax.nn.one_hot(after.tokens, counts.shape[-1], dtype=counts.dtype)
            history = dataclasses.replace(history, generated=counts)
        parents = jnp.take_along_axis(frontier.nodes, children.parents, axis=1)
        out = children.tokens, parents, children.mask, children.q, children.value
        return (carry, after, history), out

    state = carry, frontier, history
    (carry, _, _), levels = jax.lax.scan(level, state, jnp.arange(growth.depth))
    flat = lambda x: x.swapaxes(0, 1).reshape(batch, -1, *x.shape[3:])
    tokens, parents, mask, q, value = jax.tree.map(flat, levels)
    # A node whose parent is no node is none either, and hangs off the pending token.
    parents = jnp.where(mask, parents, -1)
    tree = DraftTree(tokens, parents, mask, q, depth=growth.depth)
    return growth.finish(tree, value), carry


@dataclasses.dataclass(frozen=True)
class Slots:
    """Where the frontiers stand in a window of tokens that a drafter feeds anew at each level.

    The first `ahead` slots hold committed tokens, the pending one last among them; each later frontier is written
    behind the one before it. The last level is not fed, so that a window has `ahead + max(1, D - 1) F` slots.

    Attributes:
      ahead: slots of committed tokens.
      width: F.
      pending: int32 `[B, 1]`, the slot of the pending token.
    """

    ahead: int
    width: int
    pending: jax.Array

    def size(self, depth: int) -> int:
        """Slots of a window for trees of some depth."""
        return self.ahead + max(1, depth - 1) * self.width

    def _start(self, depth: jax.Array) -> jax.Array:
        return self.ahead + (depth - 1) * self.width

    def put(self, old: jax.Array, new: jax.Array, depth: jax.Array) -> jax.Array:
        """The window `[B, M, ...]` with the frontier `[B, F, ...]` of a level; the pending token is there already."""
        new = new.astype(old.dtype)
        written = jax.lax.dynamic_update_slice_in_dim(old, new, self._start(depth), axis=1)
        return jnp.where(depth == 0, old, written)

    def parents(self, frontier: Frontier, depth: jax.Array) -> jax.Array:
        """The slots int32 `[B, F]` of the parents of a level's frontier."""
        above = self._start(depth) - self.width + frontier.parents
        return jnp.where(depth == 1, self.pending, above)

    def at(self, depth: jax.Array) -> jax.Array:
        """The slots int32 `[B, F]` of a level's frontier."""
        return jnp.where(depth == 0, self.pending, self._start(depth) + jnp.arange(self.width))


def own_noise(context: Context, depth: jax.Array, slots: int) -> jax.Array:
    """Gumbel noise `[B, slots, V]` for independent draws at one depth; slot 0 has that of the context."""
    given = jax.lax.dynamic_slice_in_dim(context.noise, depth, 1, axis=1)
    if slots == 1:
        return given
    rounds = context.rows.rounds[:, None]
    deep = context.noise.shape[1]
    places = depth + deep * jnp.arange(1, slots)
    keys = lambda: key_at(context.keys, Purpose.DRAFT, rounds, places)
    shape = (rounds.shape[0], slots - 1, context.vocab_size)
    return jnp.concatenate([given, context.settings.warp.noise(keys, shape)], axis=1)


def without_earlier_siblings(
    law: jax.Array, tokens: jax.Array, parents: jax.Array, mask: jax.Array, greedy: jax.Array
) -> jax.Array:
    """The law of each node given that its earlier siblings were drawn before it, without replacement.

    Args:
      law: float32 `[B, C, V]`, of the nodes' parents.
      tokens: int32 `[B, C]`.
      parents: int32 `[B, C]`.
      mask: bool `[B, C]`.
      greedy: bool `[B, 1, 1]`, rows whose nodes are chosen: their laws are one-hot.

    Returns:
      float32 `[B, C, V]`, log-probabilities; one-hot too where no other token is left.
    """
    count, size = law.shape[1:]
    earlier = (parents[:, :, None] == parents[:, None, :]) & jnp.tri(count, k=-1, dtype=bool)
    earlier &= mask[:, None, :]
    drawn = jax.nn.one_hot(tokens, size, dtype=jnp.float32)
    removed = jnp.einsum("bce,bev->bcv", earlier.astype(jnp.float32), drawn) > 0
    left = jax.nn.log_softmax(jnp.where(removed, -jnp.inf, law))
    # Without earlier siblings the law itself, to the bit.
    left = jnp.where(removed.any(-1, keepdims=True), left, law)
    sure = jnp.where(drawn > 0, 0.0, -jnp.inf)
    return jnp.where(greedy | ~jnp.isfinite(left).any(-1, keepdims=True), sure, left)
