"""Beam search: of all continuations the most probable.

Legend: P prompts, H hypotheses of a prompt.
"""

import dataclasses

import jax

from jaxdec.model import Params
from jaxdec.search.beam_rules.contract import BeamRule, Choice, Continuations, best_of


@dataclasses.dataclass(frozen=True)
class MostProbable(BeamRule):
    """The continuations of highest log-probability.

        S(y v) = S(y) + log p(v | y)

    Exactness: heuristic.
    """

    def choose(self, params: Params, seen: Continuations, count: int) -> Choice:
        """See `BeamRule.choose`."""
        score, source, token = best_of(seen.scores[..., None] + seen.law, count)
        one_group: tuple[jax.Array, ...] = tuple(x[:, None] for x in (source, token, score))
        return Choice(*one_group)
