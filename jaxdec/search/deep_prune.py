"""DeepPrune in the loop: traces that a judge expects to end alike stop early, all but one.

Legend: P prompts, H hypotheses of a prompt (traces), L buffer width.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdec.decoding import Decoder, Knob, Rows
from jaxdec.model import Params
from jaxdec.search.contract import Boundary, Decision, Pool, Rule
from jaxdec.search.first_finish import ended_by_itself
from jaxdec.search.population import Population, population
from jaxdec.search.segments import whole
from jaxdec.search.selection import cluster

Judge = Callable[[Params, jax.Array, jax.Array, jax.Array], jax.Array]
"""`judge(params, tokens [P, H, L], prompt_length [P, H], length [P, H]) -> [P, H, H]`, the probabilities that two
traces end with the same answer, from what they say so far."""


@dataclasses.dataclass(frozen=True)
class Pruned(Rule):
    """After some tokens, traces are clustered; the first of each cluster goes on."""

    judge: Judge
    after: int
    most: int
    members: int
    name: str = ""

    @property
    def knobs(self) -> dict[str, Knob]:
        """`prune_threshold`, above which a trace is taken to end as a cluster does."""
        return {"prune_threshold": Knob(0.5, low=0.0, high=1.0)}

    def start(self, pool: Pool, rows: Rows) -> Pool:
        """The first segment has so many tokens; what follows is as long as the trace."""
        return dataclasses.replace(pool, most=jnp.full_like(pool.most, self.after))

    def decide(self, params: Params, boundary: Boundary) -> Decision:
        """Prunes at the first boundary; a trace weighs as many as its cluster has."""
        rows, each, stay = boundary.rows, boundary.by_prompt, Decision.stay(boundary)
        said = self.judge(params, each(rows.tokens), each(rows.prompt_length), each(rows.length))
        threshold = each(boundary.settings.knobs["prune_threshold"])[:, 0]
        valid = each(boundary.live | ended_by_itself(rows))
        found = cluster(said, threshold, most=self.most, members=self.members, valid=valid)
        sizes = jnp.where(found.survivors, found.sizes, 0).astype(jnp.float32)
        later = each(boundary.pool.boundaries) > 0
        return dataclasses.replace(
            stay,
            ended=~found.survivors & ~later,
            log_weights=jnp.where(later, stay.log_weights, jnp.log(sizes)),
        )


def deep_prune(
    decoder: Decoder,
    judge: Judge,
    *,
    after: int,
    most: int = 16,
    members: int = 10,
    name: str = "",
) -> Population:
    """DeepPrune: once traces have some tokens, those that a judge expects to end alike stop, all but the first.

    Traces are clustered greedily by the judge (`selection.cluster`): trace i joins the cluster of the highest mean
    similarity above `prune_threshold`, or opens one. The first of each cluster goes on, with the weight of the cluster:
    a vote weighted by `exp(Result.pool.log_weights)` is one of all traces.

    Args:
      decoder: draws the traces.
      judge: says how probable it is that two traces end with the same answer; traced, a part of the program.
      after: new tokens of each trace when it is judged.
      most: clusters at most; a trace that belongs to none joins the nearest then.
      members: traces of a cluster that are compared.
      name: of the judge's parameters beside the target's; "" for a judge without.

    The knob `prune_threshold` is 0.5 unless the request says otherwise; at 1 nothing is pruned.

    Raises:
      ValueError: for sizes below 1, or a judge that is no function.

    Exactness: heuristic. One trace is the decoder.
    Source: 2510.08483. Its judge is a language model that was trained to compare traces; none is shipped.
    """
    for what, size in (("after", after), ("most", most), ("members", members)):
        if size < 1:
            raise ValueError(f"{what} must be at least 1, got {size}")
    if not callable(judge):
        raise ValueError(f"judge must be callable, got {type(judge).__name__}")
    rule = Pruned(judge, after, most, members, name)
    return population(decoder, segment=whole(), rule=rule)
