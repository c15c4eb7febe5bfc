"""How a draft tree grows, level by level, from the laws of its nodes.

Whoever drafts (a small model, heads on the target, a table) knows laws: what may follow a node. A *growth rule* turns
them into nodes: a chain, independent chains, a fixed shape, a beam. `grow` runs one with the other, so that n sources
of laws and m rules make n x m drafters.

Legend: B rows, D levels, F expanded nodes of a level (the frontier), C nodes drawn a level, N nodes of the tree,
V vocabulary.
"""

import abc
import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.decoding import Part
from jaxdec.model import Params
from jaxdec.speculative.contract import Context
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


class Growth(Part, abc.ABC):
    """A growth rule. Subclasses are frozen dataclasses, so that they compare by value; all methods are pure.

    `params` of every hook are the rule's own, `params[name]`, or None.

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

    @abc.abstractmethod
    def children(
        self, params: Params, depth: jax.Array, laws: Laws, frontier: Frontier, context: Context
    ) -> Children:
        """The nodes below a frontier; `depth` counts levels from 0 and is traced."""

    def expanded(self, params: Params, depth: jax.Array, children: Children) -> jax.Array:
        """int32 `[B, F]`, which of the children form the next frontier."""
        batch = children.tokens.shape[0]
        return jnp.broadcast_to(jnp.arange(self.frontier, dtype=jnp.int32), (batch, self.frontier))

    def finish(self, params: Params, tree: DraftTree, value: jax.Array) -> DraftTree:
        """The tree to propose, from all D C nodes that were drawn, level by level, and their values `[B, D C]`."""
        return tree
