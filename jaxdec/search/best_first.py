"""Best-first search over steps: what looks best so far is continued next.

Legend: B rows, P prompts, H hypotheses of a prompt (nodes), K continuations of a node.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.decoding import Decoder, Knob, Rows
from jaxdec.model import Params
from jaxdec.search.contract import Boundary, Decision, Pool, Rule, Scorer
from jaxdec.search.first_finish import ended_by_itself
from jaxdec.search.population import Population, population
from jaxdec.search.segments import Segment


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Nodes:
    """What is known of each node.

    Attributes:
      drops: float32 `[B]`, the sum of the drops of the reward along the path to it.
      estimate: float32 `[B]`, f; infinite where there is no open node.
      reward: float32 `[B]`, r.
      born: int32 `[B]`, the boundary at which it was written.
    """

    drops: jax.Array
    estimate: jax.Array
    reward: jax.Array
    born: jax.Array


@dataclasses.dataclass(frozen=True)
class Frontier(Rule):
    """Rows are the frontier: K of them continue the best node, the others keep theirs."""

    branches: int = 4
    greedy: bool = False

    @property
    def knobs(self) -> dict[str, Knob]:
        """`expansions`, how many nodes are continued at most."""
        return {"expansions": Knob(64, low=1, high=1 << 24, integer=True)}

    def start(self, pool: Pool, rows: Rows) -> Pool:
        """The first K rows continue the prompt; the others are empty."""
        hypothesis = jnp.arange(len(rows.length)) % rows.hypotheses
        zero = jnp.zeros_like(pool.scores)
        nodes = Nodes(zero, jnp.full_like(zero, jnp.inf), zero + 1, jnp.zeros_like(rows.length))
        return dataclasses.replace(pool, parked=hypothesis >= self.branches, own=nodes)

    def decide(self, params: Params, boundary: Boundary) -> Decision:
        """Takes up the new nodes, then continues the best one, or ends with it."""
        nodes = self._with_new(boundary)
        each = boundary.by_prompt
        estimate, born, here = each(nodes.estimate), each(nodes.born), boundary.here
        order = jnp.lexsort((here, born, estimate), axis=1)
        best = order[:, :1]
        done = jnp.take_along_axis(each(ended_by_itself(boundary.rows)), best, axis=1)
        limit = each(boundary.settings.knobs["expansions"])[:, :1]
        spent = each(boundary.pool.boundaries)[:, :1] + 1 >= limit
        # Among those that have ended, if the budget is spent and there is one.
        finished = each(ended_by_itself(boundary.rows)) & jnp.isfinite(estimate)
        ranked = jnp.where(finished, estimate, jnp.inf)
        of_finished = jnp.lexsort((here, born, ranked), axis=1)[:, :1]
        any_finished = finished.any(1, keepdims=True)
        best = jnp.where(spent & any_finished, of_finished, best)
        nothing = ~jnp.isfinite(jnp.min(estimate, axis=1, keepdims=True))
        over = done | spent | nothing
        # The best node's own row, and those that matter least.
        last = jnp.where(here == best, -jnp.inf, estimate)
        worst = jnp.argsort(jnp.lexsort((here, -born, -last), axis=1), axis=1)
        child = (worst < self.branches - 1) & (here != best) | (here == best)
        child = jnp.where(over, here == best, child)
        closed = jnp.where(child | over, jnp.inf, estimate)
        stay = Decision.stay(boundary)
        return dataclasses.replace(
            stay,
            source=jnp.where(child, best, here),
            log_weights=jnp.where(over & (here != best), -jnp.inf, 0.0).astype(jnp.float32),
            parked=~child,
            ended=over & (here != best),
            own=dataclasses.replace(nodes, estimate=closed.reshape(-1)),
        )

    def _with_new(self, boundary: Boundary) -> Nodes:
        """The nodes, with those that rows have just written."""
        nodes, pool = boundary.pool.own, boundary.pool
        reward = jax.nn.sigmoid(pool.scores)
        reward = jnp.where(jnp.isnan(reward), 0.0, reward)
        # Equal to g + h, with h(prompt) = 0, but that paths without a drop have the same f to the last bit.
        drops = nodes.drops + jnp.maximum(nodes.reward - reward, 0.0)
        estimate = 1 - reward if self.greedy else drops
        new = ~pool.parked
        take = lambda fresh, old: jnp.where(new, fresh, old)
        # What was cut off can neither go on nor be the answer.
        open_ = boundary.live | ended_by_itself(boundary.rows)
        estimate = jnp.where(open_, estimate, jnp.inf)
        return Nodes(
            drops=take(drops, nodes.drops),
            estimate=take(estimate, nodes.estimate),
            reward=take(reward, nodes.reward),
            born=take(pool.boundaries, nodes.born),
        )


def a_star(
    decoder: Decoder,
    reward: Scorer,
    *,
    segment: Segment,
    branches: int = 4,
    greedy: bool = False,
) -> Population:
    """A*-decoding: best-first search over steps of reasoning, by a process reward.

        h(s) = 1 - r(s),   g(s') = g(s) + max(0, r(s') - r(s)),   f = g + h

    The open node with the least f is continued by K steps, which are scored and become open nodes; ties go to the
    older node, then to the first row. Popping one that has ended is the answer. So f is the sum of the drops of the
    reward along a path: it never falls. After `expansions` nodes the best ended one is the answer, or the best open one
    is decoded to its end.

    Rows are the frontier, and continuations take the rows of the node that they continue and of those with the largest
    f, so caches of nodes are where the search needs them and nothing is read twice. H hypotheses keep H open nodes: of
    more, the least promising are forgotten.

    Args:
      decoder: draws the steps.
      reward: scores a past, as the logit of r in (0, 1).
      segment: a step of reasoning, such as `until([newline])`.
      branches: K; at most H.
      greedy: whether g is left out: greedy best-first search.

    The knob `expansions` is 64 unless the request says otherwise. The answer is the row with weight 1
    (`Result.pool.log_weights` is 0).

    Raises:
      ValueError: for branches below 1.

    Exactness: heuristic. One hypothesis is the decoder.
    Source: 2505.13672. Its frontier is unbounded; the sign of g is our reading, under which h is consistent.
    """
    if branches < 1:
        raise ValueError(f"branches must be at least 1, got {branches}")
    return population(decoder, segment=segment, rule=Frontier(branches, greedy), scorer=reward)
