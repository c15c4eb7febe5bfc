"""Acceptance by the neighbours of a token: near tokens count for one another.

Legend: B rows, N draft nodes, T = N + 1 scored tokens, V vocabulary, K neighbours.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdec.arguments import check_type
from jaxdec.decoding import Exactness, Knob, Request, Scored, Settings
from jaxdec.model import Params
from jaxdec.speculative.tree import DraftTree
from jaxdec.speculative.verifiers.law import RatioVerifier, TreeLaw, column, residual


def nearest(vectors: ArrayLike, count: int) -> np.ndarray:
    """The tokens nearest to each by the distance of their vectors, itself left out, the nearest first.

    Args:
      vectors: `[V, D]`, such as a codebook or the embedding of a model.
      count: K, 1 to V - 1.

    Returns:
      int32 `[V, K]`.

    Raises:
      ValueError: for vectors that are no matrix, or another count.
    """
    points = np.asarray(vectors, np.float32)
    if points.ndim != 2:
        raise ValueError(f"vectors must be of shape [V, D], got {list(points.shape)}")
    if not 1 <= count < len(points):
        raise ValueError(f"count must be 1 to {len(points) - 1}, got {count}")
    square, found = (points**2).sum(1), []
    for start in range(0, len(points), 1024):
        block = points[start : start + 1024]
        distance = square - 2 * block @ points.T
        distance[np.arange(len(block)), start + np.arange(len(block))] = np.inf
        found.append(np.argsort(distance, axis=1, kind="stable")[:, :count])
    return np.concatenate(found).astype(np.int32)


def near_law(
    p: jax.Array,
    q: jax.Array,
    tree: DraftTree,
    neighbours: jax.Array,
    near_mass: float | jax.Array,
    relative: bool = False,
) -> TreeLaw:
    """Recursive rejection in which a child also counts for its nearest tokens, up to a mass of them.

    After a scored token start from `g = p`. For child x, in order, let A be the longest run of x's neighbours, nearest
    first, of mass `g(A) <= near_mass` (`near_mass g(x)` if it is relative), and let h be g with the mass of A moved to
    x. The child is accepted iff `u q(x) < h(x)`; if not, `g = [h - q]+`, normalised. The closing token has the law g.

    Args:
      p: `[B, T, V]`.
      q: `[B, N, V]`.
      tree: tokens, parents and mask.
      neighbours: int32 `[V, K]`, see `nearest`.
      near_mass: one value or `[B]`.
      relative: see above.
    """
    rows, share = jnp.arange(len(tree.tokens)), column(near_mass, 2)

    def judge(left, node):
        q, token, parent, exists = node
        before = left[rows, parent]
        own = before[rows, token]
        near = neighbours[token]  # [B, K]
        mass = jnp.take_along_axis(before, near, axis=1)
        bar = share * own[:, None] if relative else share
        taken = jnp.cumsum(mass, axis=1) <= bar
        moved = before.at[rows[:, None], near].multiply(1 - taken.astype(before.dtype))
        raised = own + jnp.where(taken, mass, 0).sum(1)
        moved = moved.at[rows, token].set(raised)
        numerator = jnp.where(exists, raised, 0)
        denominator = jnp.where(exists, q[rows, token], 1)
        after = jnp.where(exists[:, None], residual(moved, q), before)
        return left.at[rows, parent].set(after), (numerator, denominator)

    nodes = (q.swapaxes(0, 1), tree.tokens.T, tree.parents.T + 1, tree.mask.T)
    closing, (numerator, denominator) = jax.lax.scan(judge, p, nodes)
    return TreeLaw(numerator.T, denominator.T, closing)


@dataclasses.dataclass(frozen=True)
class NearTokens(RatioVerifier):
    """LANTERN: a draft counts for tokens near it, as those of images that look alike; see `near_law`.

    Of one chosen child a scored token emits h itself, so that

        TV(emitted, p) = p(A) <= near_mass.

    Several chosen children move mass one after the other, and the distance is at most the sum of what they move. For
    *drawn* children h depends on the draw, and there is no such bound.

    Its parameters are the table of neighbours, int32 `[V, K]`: `nearest` of a codebook.

    Attributes:
      near_mass: the default of the traced setting, at least 0; 0 is recursive rejection.
      relative: whether the mass is a multiple of the draft's own (LANTERN++, whose lambda is `near_mass + 1`).
      name: of the table in `params`.

    Raises:
      ValueError: for a mass below 0; where the request is, for a table that is none.

    Exactness: approximate(near_mass).
    Source: LANTERN (2410.03355), LANTERN++ (2502.06352), with the residual of the paper; the published code takes all
    neighbours out of the law of a rejected child, whose distance has no bound. At temperature 0 laws are one-hot here,
    and nothing is relaxed; there, the likeliest token of the raised softmax is taken.
    """

    near_mass: float | jax.Array = 0.1
    relative: bool = False
    name: str = "neighbours"
    _: dataclasses.KW_ONLY
    neighbours: jax.Array | None = dataclasses.field(default=None, init=False)
    exactness: Exactness = Exactness.APPROXIMATE

    def __post_init__(self):
        check_type("relative", self.relative, bool)
        check_type("name", self.name, str)
        check_type("near_mass", self.near_mass, float)

    @property
    def knobs(self) -> dict[str, Knob]:
        """The mass."""
        return {"near_mass": Knob(float(self.near_mass), 0)}

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for a table that is missing or none."""
        super().check(request, params)
        table = self.own(params)
        if not isinstance(table, jax.Array | np.ndarray) or table.ndim != 2:
            raise ValueError(f"{self.name!r} must be int32 [V, K], got {type(table).__name__}")
        if not jnp.issubdtype(table.dtype, jnp.integer):
            raise ValueError(f"{self.name!r} must be int32 [V, K], got {table.dtype}")

    def settled(self, params: Params, settings: Settings, scored: Scored) -> RatioVerifier:
        """With the mass of each row, and the table."""
        return self.of_step(near_mass=settings.knobs["near_mass"], neighbours=jnp.asarray(params))

    def law(self, p: jax.Array, q: jax.Array, tree: DraftTree) -> TreeLaw:
        """See `near_law`."""
        assert self.neighbours is not None
        if len(self.neighbours) != p.shape[-1]:
            raise ValueError(
                f"{self.name!r} is of {len(self.neighbours)} tokens, the target has {p.shape[-1]}"
            )
        return near_law(p, q, tree, self.neighbours, self.near_mass, self.relative)
