"""Grouped acceptance: a draft stands for tokens like it.

Legend: B rows, N draft nodes, T = N + 1 scored tokens, V vocabulary, G groups.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.arguments import check_type
from jaxdec.decoding import Exactness, Knob
from jaxdec.speculative.tree import DraftTree
from jaxdec.speculative.verifiers.law import (
    RatioVerifier,
    TreeLaw,
    at_parents,
    at_tokens,
    column,
    normalised,
    residual,
)
from jaxdec.speculative.verifiers.token_ratio import first_failure


def group_law(
    p: jax.Array, q: jax.Array, tokens: jax.Array, mask: jax.Array, groups: Sequence[int]
) -> TreeLaw:
    """The token rule over a fixed partition into groups C, of masses P_C and Q_C.

    Draft x of group C is accepted iff `u Q_C < P_C`; the closing token has the law

        [P_C - Q_C]+ p(v) / P_C,   C the group of v,   normalised;

    p itself after all drafts. So the *groups* of the tokens have the target's law, and a token the law

        sum over C of   min(P_C, Q_C) q(v | C) + [P_C - Q_C]+ p(v | C).

    Args:
      p: `[B, N + 1, V]`.
      q: `[B, N, V]`.
      tokens: int32 `[B, N]`.
      mask: bool `[B, N]`, a prefix of each row.
      groups: of each token, below V.
    """
    table, count = np.asarray(groups), int(max(groups)) + 1
    q = jnp.where(mask[..., None], q, 0)
    q = jnp.pad(q, ((0, 0), (0, 1), (0, 0)))
    sums = lambda law: jnp.zeros((*law.shape[:-1], count), law.dtype).at[..., table].add(law)
    mass, drafted = (sums(law)[..., table] for law in (p, q))
    left = jnp.maximum(mass - drafted, 0) * p / jnp.where(mass > 0, mass, 1)
    numerator, denominator = (at_tokens(m[:, :-1], tokens) for m in (mass, drafted))
    return TreeLaw(
        jnp.where(mask, numerator, 0), jnp.where(mask, denominator, 1), normalised(left, p)
    )


@dataclasses.dataclass(frozen=True)
class GroupRatio(RatioVerifier):
    """Accepts a draft by the masses of its group of tokens; see `group_law`.

    Groups are emitted with the target's law exactly, whatever the drafter; within a group the drafter may choose:

        TV(emitted, p) = sum over C of   min(P_C, Q_C) TV(q(. | C), p(. | C))

    for one token. Groups of one token are `TokenRatio`, a single group emits the drafter's law.

    Attributes:
      groups: of each token of the vocabulary, a number from 0; for instance of tokens that look or mean alike.

    Raises:
      ValueError: for a group below 0 or past the number of tokens; while it is traced, for another vocabulary.

    Exactness: heuristic for tokens, distribution-identical for groups.
    Source: Grouped Speculative Decoding (`ClusterRatio`) with fixed groups, for which the law has a bound; ours.
    """

    groups: tuple[int, ...]
    _: dataclasses.KW_ONLY
    exactness: Exactness = Exactness.HEURISTIC
    chains_only: bool = True

    def __post_init__(self):
        check_type("groups", self.groups, tuple[int, ...])
        object.__setattr__(self, "groups", tuple(map(int, self.groups)))
        for token, group in enumerate(self.groups):
            if not 0 <= group < len(self.groups):
                raise ValueError(
                    f"groups: token {token} is in group {group}, but groups are 0 to {len(self.groups) - 1}"
                )

    def law(self, p: jax.Array, q: jax.Array, tree: DraftTree) -> TreeLaw:
        """See `group_law`."""
        if len(self.groups) != p.shape[-1]:
            raise ValueError(
                f"groups are those of {len(self.groups)} tokens, the target has {p.shape[-1]}"
            )
        return group_law(p, q, tree.tokens, tree.mask, self.groups)

    def last(self, passed: jax.Array, tree: DraftTree) -> jax.Array:
        """The draft before the first failure."""
        return first_failure(passed)


def cluster_law(
    p: jax.Array,
    q: jax.Array,
    tree: DraftTree,
    below: int,
    above: int,
    gap: float | jax.Array,
) -> TreeLaw:
    """The token rule with clusters around each draft x: of the tokens that p ranks next to it those about as likely.

        C(x) = {x} and y with `-above <= rank(y) - rank(x) <= below` and `|p(y) - p(x)| < gap`

    Draft x is accepted iff `u q(C) < p(C)`; the closing token has the law `[p - q]+`, normalised.

    Args:
      p: `[B, N + 1, V]`.
      q: `[B, N, V]`.
      tree: a chain.
      below: less likely tokens of a cluster at most.
      above: likelier tokens of a cluster at most.
      gap: one value or `[B]`.
    """
    here, size = at_parents(p, tree.parents), p.shape[-1]
    order = jnp.argsort(-here, axis=-1, stable=True)  # [B, N, V], likeliest first
    rank = jnp.argmax(order == tree.tokens[..., None], axis=-1)[..., None]
    places = rank + jnp.arange(-above, below + 1)
    inside = (places >= 0) & (places < size)
    near = jnp.take_along_axis(order, jnp.clip(places, 0, size - 1), axis=-1)
    p_near, q_near = (jnp.take_along_axis(law, near, axis=-1) for law in (here, q))
    own = at_tokens(here, tree.tokens)[..., None]
    alike = inside & ((jnp.abs(p_near - own) < column(gap, 3)) | (places == rank))
    numerator, denominator = (jnp.where(alike, x, 0).sum(-1) for x in (p_near, q_near))
    q = jnp.where(tree.mask[..., None], q, 0)
    closing = residual(p, jnp.pad(q, ((0, 0), (0, 1), (0, 0))))
    mask = tree.mask
    return TreeLaw(jnp.where(mask, numerator, 0), jnp.where(mask, denominator, 1), closing)


@dataclasses.dataclass(frozen=True)
class ClusterRatio(RatioVerifier):
    """Grouped Speculative Decoding: accepts a draft by the masses of the tokens about as likely; see `cluster_law`.

    With a(x) the probability that draft x passes, a token is emitted with the law

        q(v) a(v) + (1 - sum_x q(x) a(x)) r(v),   r = [p - q]+, normalised,

    whose distance from p is at most `sum_x q(x) |a(x) - min(1, p(x) / q(x))|`: how much more, or less, often drafts
    pass than they should.

    Attributes:
      below: less likely tokens of a cluster at most, at least 0.
      above: likelier tokens of a cluster at most, at least 0; 0 for both is `TokenRatio`.
      cluster_gap: the default of the traced setting: how far probabilities in a cluster lie apart, at most 1; 0 is
        `TokenRatio`.

    Raises:
      ValueError: for numbers below 0.

    Exactness: approximate(cluster_gap).
    Source: GSD (ICCV 2025), over the drafts of speculative Jacobi decoding; without its filter by distances of image
    tokens.
    """

    below: int = 7
    above: int = 6
    cluster_gap: float | jax.Array = 0.15
    _: dataclasses.KW_ONLY
    exactness: Exactness = Exactness.APPROXIMATE
    chains_only: bool = True

    def __post_init__(self):
        for name in ("below", "above"):
            check_type(name, getattr(self, name), int)
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        check_type("cluster_gap", self.cluster_gap, float)

    @property
    def knobs(self) -> dict[str, Knob]:
        """The gap."""
        return {"cluster_gap": Knob(float(self.cluster_gap), 0, 1)}

    def law(self, p: jax.Array, q: jax.Array, tree: DraftTree) -> TreeLaw:
        """See `cluster_law`."""
        return cluster_law(p, q, tree, self.below, self.above, self.cluster_gap)

    def last(self, passed: jax.Array, tree: DraftTree) -> jax.Array:
        """The draft before the first failure."""
        return first_failure(passed)
