"""Growth rules: the shapes that draft trees grow into.

Legend: as in `jaxdec.speculative.growth`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.speculative.growth import (
    Children,
    Frontier,
    Growth,
    Laws,
    own_noise,
    without_earlier_siblings,
)
from jaxdec.speculative.parts import Context
from jaxdec.speculative.tree import DraftTree, RankTree, check_sizes


@dataclasses.dataclass(frozen=True)
class Fixed(Growth):
    """Trees of one fixed shape; see `fixed`."""

    shape: RankTree

    @property
    def depth(self) -> int:  # type: ignore[override]
        """D."""
        return max(self.shape.depths)

    @property
    def frontier(self) -> int:
        """The most nodes of a level that have children."""
        return self._tables()[3].shape[1]

    @property
    def drawn(self) -> int:
        """The most nodes of a level."""
        return self._tables()[0].shape[1]

    @property
    def nodes(self) -> int:
        """N."""
        return len(self.shape.parents)

    @property
    def branching(self) -> int:
        """The most siblings."""
        return max(self.shape.ranks) + 1

    def _tables(self) -> tuple[np.ndarray, ...]:
        """By level: the frontier slot of each node's parent, its rank, whether it exists; and who is expanded."""
        parents, depths = np.array(self.shape.parents), np.array(self.shape.depths)
        levels = [np.flatnonzero(depths == depth + 1) for depth in range(self.depth)]
        inner = [np.array([n for n in level if n in parents]) for level in levels]
        width = max(map(len, levels))
        slots, ranks = np.zeros((2, self.depth, width), np.int32)
        exists = np.zeros((self.depth, width), bool)
        expanded = np.zeros((self.depth, max(1, *map(len, inner))), np.int32)
        for depth, level in enumerate(levels):
            size = len(level)
            exists[depth, :size] = True
            ranks[depth, :size] = np.array(self.shape.ranks)[level]
            if depth:
                slots[depth, :size] = np.searchsorted(inner[depth - 1], parents[level])
            expanded[depth, : len(inner[depth])] = np.searchsorted(level, inner[depth])
        return slots, ranks, exists, expanded

    def children(
        self, depth: jax.Array, laws: Laws, frontier: Frontier, context: Context
    ) -> Children:
        """The best tokens of each parent, as many as the shape has."""
        slots, ranks, exists, _ = (jnp.asarray(table)[depth] for table in self._tables())
        if self.branching == 1:  # no sort for chains
            best = jnp.argmax(laws.perturbed, axis=-1)[..., None]
        else:
            best = jax.lax.top_k(laws.perturbed, self.branching)[1]
        tokens = best[:, slots, ranks].astype(jnp.int32)
        parents = jnp.broadcast_to(slots, tokens.shape)
        law = laws.at(parents)
        own = jnp.take_along_axis(law, tokens[..., None], axis=-1)[..., 0]
        # Where fewer tokens have mass than the shape has siblings, the others do not exist.
        mask = exists & frontier.mask[:, slots] & (laws.greedy[..., 0] | (own > -jnp.inf))
        q = without_earlier_siblings(law, tokens, parents, mask, laws.greedy)
        path = frontier.path[:, slots] + own
        return Children(tokens, parents, mask, q, path, path)

    def expanded(self, depth: jax.Array, children: Children) -> jax.Array:
        """The nodes that have children."""
        chosen = jnp.asarray(self._tables()[3])[depth]
        return jnp.broadcast_to(chosen, (children.tokens.shape[0], len(chosen)))

    def finish(self, tree: DraftTree, value: jax.Array) -> DraftTree:
        """The nodes in the order of the shape."""
        levels = np.array(self.shape.depths) - 1
        places = np.zeros(self.nodes, np.int32)
        for level in range(self.depth):
            places[levels == level] = level * self.drawn + np.arange((levels == level).sum())
        parents = jnp.broadcast_to(jnp.asarray(self.shape.parents), (len(value), self.nodes))
        q = None if tree.q is None else tree.q[:, places]
        mask = tree.mask[:, places]
        return DraftTree(tree.tokens[:, places], parents, mask, q, depth=self.depth)


@dataclasses.dataclass(frozen=True)
class GreedySiblings(Fixed):
    """Trees of a fixed shape, one draw among the siblings of each node; see `greedy_siblings`."""

    def children(
        self, depth: jax.Array, laws: Laws, frontier: Frontier, context: Context
    ) -> Children:
        """First a draw from the law without the likeliest tokens, then these."""
        drawn = super().children(depth, laws, frontier, context)
        slots, ranks, exists, _ = (jnp.asarray(table)[depth] for table in self._tables())
        family = exists & (slots[:, None] == slots)  # [C, C]
        chosen = jnp.where(exists, family.sum(-1) - 1, 0)  # siblings of each node that are chosen
        best = jax.lax.top_k(laws.law, self.branching)[1][:, slots]  # [B, C, R]
        law = laws.at(drawn.parents)
        likeliest = jax.nn.one_hot(best, law.shape[-1], dtype=bool)
        likeliest &= (jnp.arange(self.branching) < chosen[:, None])[..., None]
        rest = jnp.where(likeliest.any(2), -jnp.inf, law)
        draw = jnp.argmax(rest + laws.noise, axis=-1)
        choice = jnp.take_along_axis(best, jnp.maximum(ranks - 1, 0)[:, None][None], axis=-1)
        tokens = jnp.where(ranks == 0, draw, choice[..., 0])
        # Rows without a draw keep the order of the plain rule: all of their nodes are chosen.
        tokens = jnp.where(laws.greedy[..., 0], drawn.tokens, tokens).astype(jnp.int32)
        own = jnp.take_along_axis(law, tokens[..., None], axis=-1)[..., 0]
        left = jnp.isfinite(rest).any(-1)
        sampled = jnp.where(ranks == 0, left, own > -jnp.inf)
        mask = exists & frontier.mask[:, slots] & (laws.greedy[..., 0] | sampled)
        sure = jnp.where(jax.nn.one_hot(tokens, law.shape[-1], dtype=bool), 0.0, -jnp.inf)
        certain = laws.greedy | (ranks > 0)[:, None] | ~left[..., None]
        q = jnp.where(certain, sure, jax.nn.log_softmax(rest))
        path = frontier.path[:, slots] + own
        return Children(tokens, drawn.parents, mask, q, path, path)


@dataclasses.dataclass(frozen=True)
class Independent(Growth):
    """Chains that are drawn independently; see `independent`."""

    chains: int
    depth: int

    @property
    def frontier(self) -> int:
        """One node a chain."""
        return self.chains

    @property
    def independent(self) -> bool:
        """They are."""
        return True

    def children(
        self, depth: jax.Array, laws: Laws, frontier: Frontier, context: Context
    ) -> Children:
        """One draw a chain, from the law of the first chain with the same text so far."""
        batch, size = frontier.tokens.shape
        # A chain that agrees with an earlier one so far hangs off that one: `same` is [B, F, F].
        siblings = frontier.parents[:, :, None] == frontier.parents[:, None, :]
        same = siblings & (frontier.tokens[:, :, None] == frontier.tokens[:, None, :])
        parents = jnp.where(depth == 0, 0, jnp.argmax(same, axis=-1))
        law = laws.at(parents)
        noise = own_noise(context, depth, size)
        tokens = jnp.argmax(law + noise, axis=-1).astype(jnp.int32)
        own = jnp.take_along_axis(law, tokens[..., None], axis=-1)[..., 0]
        path = jnp.take_along_axis(frontier.path, parents, axis=1) + own
        return Children(tokens, parents, jnp.ones((batch, size), bool), law, path, path)


@dataclasses.dataclass(frozen=True)
class StochasticBeam(Growth):
    """The W paths of the largest perturbed log-probability at each depth; see `stochastic_beam`."""

    width: int
    depth: int

    @property
    def frontier(self) -> int:
        """W."""
        return self.width

    def children(
        self, depth: jax.Array, laws: Laws, frontier: Frontier, context: Context
    ) -> Children:
        """The W best continuations of all beams."""
        shared = context.shares_noise
        noise = laws.noise if shared else own_noise(context, depth, self.width)
        path = frontier.path[..., None] + jnp.where(laws.greedy, laws.raw, laws.law)
        perturbed = path + noise
        # Given that the largest of them is the parent's own value (2402.14160, after 1903.06059).
        top = perturbed.max(-1, keepdims=True)
        parent = frontier.value[..., None]
        below = parent - perturbed + jnp.log1p(-jnp.exp(jnp.minimum(perturbed - top, -1e-7)))
        value = parent - jnp.maximum(below, 0) - jnp.log1p(jnp.exp(-jnp.abs(below)))
        value = jnp.where(perturbed == top, parent, value)
        value = jnp.where(laws.greedy, path, value)
        legal = frontier.mask[..., None] & (path > -jnp.inf)
        value = jnp.where(legal, value, -jnp.inf)

        flat = value.reshape(value.shape[0], -1)
        value, places = jax.lax.top_k(flat, min(self.width, flat.shape[1]))
        fill = [(0, 0), (0, self.width - value.shape[1])]
        value, places = jnp.pad(value, fill, constant_values=-jnp.inf), jnp.pad(places, fill)
        parents, tokens = jnp.divmod(places, laws.law.shape[-1])
        mask = value > -jnp.inf
        path = jnp.take_along_axis(path.reshape(flat.shape), places, axis=1)
        tokens = tokens.astype(jnp.int32)
        q = without_earlier_siblings(laws.at(parents), tokens, parents, mask, laws.greedy)
        return Children(tokens, parents, mask, q, jnp.where(mask, value, 0.0), path)


@dataclasses.dataclass(frozen=True)
class _Weighed(Growth):
    """Trees of a budget of nodes, the `width` likeliest of each level expanded.

    Attributes:
      budget: N.
      depth: D.
      width: F.
      siblings: children of a node at most.
    """

    budget: int
    depth: int
    width: int
    siblings: int

    @property
    def frontier(self) -> int:
        """F."""
        return self.width

    @property
    def drawn(self) -> int:
        """Nodes of a level that are weighed."""
        return self.width * self.siblings

    @property
    def nodes(self) -> int:
        """N."""
        return self.budget

    @property
    def branching(self) -> int:
        """Siblings at most."""
        return self.siblings

    def expanded(self, depth: jax.Array, children: Children) -> jax.Array:
        """The likeliest; nobody has yet looked at what comes below them."""
        return _largest(children.value, self.width)


@dataclasses.dataclass(frozen=True)
class Threshold(_Weighed):
    """Nodes for as long as they are likely enough to be reached; see `threshold`."""

    least: float

    def children(
        self, depth: jax.Array, laws: Laws, frontier: Frontier, context: Context
    ) -> Children:
        """Siblings without replacement, the next one only if its slot is likely enough before it is drawn."""
        batch = frontier.tokens.shape[0]
        if not context.shares_noise:
            # Whether a node fits the budget depends on its neighbours' draws, which must tell nothing of its own.
            laws = dataclasses.replace(laws, noise=own_noise(context, depth, self.width))
        chance = laws.estimate
        _, tokens = jax.lax.top_k(laws.perturbed, self.siblings)  # [B, F, K]
        own = jnp.take_along_axis(chance, tokens, axis=-1)
        mass = jnp.exp(own)
        left = 1 - (jnp.cumsum(mass, axis=-1) - mass)
        slot = jnp.exp(frontier.value)[..., None] * left
        mask = frontier.mask[..., None] & (slot >= self.least) & (own > -jnp.inf)
        mask = jnp.cumprod(mask, axis=-1).astype(bool)
        flat = lambda x: x.reshape(batch, -1)
        parents = jnp.repeat(jnp.arange(self.width), self.siblings)
        parents = jnp.broadcast_to(parents, (batch, self.drawn))
        tokens, mask = flat(tokens).astype(jnp.int32), flat(mask)
        value = jnp.where(mask, flat(frontier.value[..., None] + own), -jnp.inf)
        law = laws.at(parents)
        q = without_earlier_siblings(law, tokens, parents, mask, laws.greedy)
        return Children(tokens, parents, mask, q, value, value)

    def finish(self, tree: DraftTree, value: jax.Array) -> DraftTree:
        """The first N nodes in the order in which they were drawn."""
        order = jnp.argsort(~tree.mask, axis=1, stable=True)[:, : self.nodes]
        return _selected(tree, order)


@dataclasses.dataclass(frozen=True)
class BestFirst(_Weighed):
    """The N nodes of the highest path probability; see `best_first`."""

    def children(
        self, depth: jax.Array, laws: Laws, frontier: Frontier, context: Context
    ) -> Children:
        """The likeliest tokens of each node; they are chosen, not drawn."""
        batch = frontier.tokens.shape[0]
        own, tokens = jax.lax.top_k(laws.estimate, self.siblings)
        flat = lambda x: x.reshape(batch, -1)
        value = flat(frontier.value[..., None] + own)
        parents = jnp.repeat(jnp.arange(self.width), self.siblings)
        parents = jnp.broadcast_to(parents, value.shape)
        mask = frontier.mask[:, parents[0]] & (value > -jnp.inf)
        value = jnp.where(mask, value, -jnp.inf)
        return Children(flat(tokens).astype(jnp.int32), parents, mask, None, value, value)

    def finish(self, tree: DraftTree, value: jax.Array) -> DraftTree:
        """The N likeliest of all that were weighed: a path never gets likelier, so that these form a tree."""
        return _selected(tree, jnp.sort(_largest(value, self.nodes), axis=1))


def _largest(value: jax.Array, count: int) -> jax.Array:
    """The places int32 `[B, count]` of the largest values, lower places first among equals."""
    return jax.lax.top_k(value, count)[1].astype(jnp.int32)


def _selected(tree: DraftTree, index: jax.Array) -> DraftTree:
    """The nodes `index [B, N]`, parents before children, with their parents among them."""
    take = lambda x: jnp.take_along_axis(x, index, axis=1)
    above = take(tree.parents)
    parents = jnp.argmax(above[:, :, None] == index[:, None, :], axis=-1)
    mask = take(tree.mask)
    parents = jnp.where(mask & (above >= 0), parents, -1)
    q = None if tree.q is None else jnp.take_along_axis(tree.q, index[..., None], axis=1)
    return DraftTree(take(tree.tokens), parents, mask, q, depth=tree.depth)


def chain(length: int) -> Fixed:
    """A single path of `length` draws.

    Raises:
      ValueError: if `length < 1`.

    Source: Leviathan et al. (2211.17192), Chen et al. (2302.01318).
    """
    if length < 1:
        raise ValueError(f"draft length must be at least 1, got {length}")
    return Fixed(RankTree.chain(length))


def fixed(shape: RankTree) -> Fixed:
    """Trees of a fixed shape, whose siblings are drawn without replacement (Gumbel-top-k) from their parent's law.

    The k-th sibling has the law `q_k = q` without the k - 1 before it, renormalised. At temperature 0 they are the
    likeliest tokens in order.

    Args:
      shape: such as `RankTree.branching((4, 2, 1))` (RSD-C) or `RankTree.best(depth, nodes, rates)`, the tree of most
        expected tokens for measured acceptance by rank (Sequoia).

    Source: RSD-C (2402.14160); Sequoia (2402.12374). Sequoia finds its tree by dynamic programming; as its acceptance
    depends on the rank alone, taking the likeliest node again and again gives the same optimum.
    """
    return Fixed(shape)


def greedy_siblings(shape: RankTree) -> GreedySiblings:
    """Trees of a fixed shape in which, of K siblings, K - 1 are the likeliest tokens and one is drawn from the others.

    The draw comes first, with the law q without the K - 1 likeliest tokens, renormalised; these follow as chosen
    nodes. Recursive rejection is the best verification of such siblings, and K = 2 gives the pairs of SpecHub.

    Args:
      shape: such as `RankTree.branching((4, 2, 1))`.

    Source: MDSD (2502.18779); SpecHub (2411.05289).
    """
    return GreedySiblings(shape)


def independent(chains: int, length: int) -> Independent:
    """Chains that are drawn independently of one another, with replacement; equal beginnings are scored once.

    A node whose earlier sibling carries the same token has no children: they hang off that sibling.

    Args:
      chains: k, at least 1.
      length: of each, at least 1.

    Raises:
      ValueError: for other sizes.

    Source: SpecTr (2310.15141), SpecInfer (2305.09781).
    """
    check_sizes(chains=chains, length=length)
    return Independent(chains, length)


def stochastic_beam(width: int, depth: int) -> StochasticBeam:
    """The `width` best of all paths at each depth, drawn without replacement: RSD-S.

    With phi the log-probability of a path and G its perturbed value (0 at the pending token), a child x has
    `phi_x = phi + log q(x)` and a Gumbel value of location phi_x, given that the largest among its siblings is G.
    A node has 0 to `width` children. Where the target's noise is shared, it serves for all paths. At temperature 0
    this is plain beam search.

    Args:
      width: W, at least 1.
      depth: D, at least 1.

    Raises:
      ValueError: for other sizes.

    Source: 2402.14160; the beam itself, 1903.06059.
    """
    check_sizes(width=width, depth=depth)
    return StochasticBeam(width, depth)


def threshold(
    nodes: int,
    depth: int,
    *,
    width: int = 8,
    siblings: int = 4,
    least: float | None = None,
) -> Threshold:
    """A tree that grows where the drafter is sure: DySpec, level by level.

    A node has the value v of its path (the product of draft probabilities). Its next sibling is drawn as long as
    `v_parent (1 - sum of the siblings' probabilities) >= least`, before anybody knows its token, and the `width`
    likeliest nodes of a level are expanded.

    Args:
      nodes: N, at least 1; nodes past it, in the order of drawing, are left out.
      depth: D, at least 1.
      width: F, nodes of a level that are expanded.
      siblings: children of a node at most.
      least: in (0, 1]; 1 / N if not given.

    Raises:
      ValueError: for other sizes, or a tree of that width and depth that cannot have so many nodes.

    Source: 2410.11744, its threshold form; the paper's greedy form runs the drafter once a node.
    """
    least = 1 / nodes if least is None and nodes > 0 else least
    if least is None or not 0 < least <= 1:
        raise ValueError(f"least must lie in (0, 1], got {least} for {nodes} nodes")
    sizes = _budgeted(nodes, depth, width, siblings)
    return Threshold(*sizes, float(least))


def best_first(nodes: int, depth: int, *, width: int = 8, siblings: int = 8) -> BestFirst:
    """The `nodes` likeliest paths among those that a beam search met: the dynamic tree of EAGLE-2.

    At each depth the `width` likeliest nodes are expanded, `siblings` children each; at the end the best of all are
    kept. Nodes are chosen, not drawn, so their law is one-hot. With a verifier that shares its noise, likely means
    likely given that noise (`Laws.estimate`).

    Args:
      nodes: N, at least 1.
      depth: D, at least 1.
      width: F.
      siblings: children of a node at most.

    Raises:
      ValueError: for other sizes, or a tree of that width and depth that cannot have so many nodes.

    Source: EAGLE-2 (2406.16858).
    """
    return BestFirst(*_budgeted(nodes, depth, width, siblings))


def _budgeted(nodes: int, depth: int, width: int, siblings: int) -> tuple[int, int, int, int]:
    check_sizes(nodes=nodes, depth=depth, width=width, siblings=siblings)
    most = width * siblings * depth
    if nodes > most:
        raise ValueError(
            f"{depth} levels of {width} x {siblings} nodes are {most}, fewer than {nodes}"
        )
    return nodes, depth, width, siblings
