"""Diverse beam search: groups that choose one after another, each kept from the tokens of those before it.

Legend: P prompts, H hypotheses of a prompt, G groups of W hypotheses, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.arguments import check_fields
from jaxdec.decoding import Knob
from jaxdec.model import Params
from jaxdec.search.beam_rules.contract import BeamRule, Choice, Continuations, best_of


@dataclasses.dataclass(frozen=True)
class Diverse(BeamRule):
    """The best continuations of each group under a penalty on what the groups before it chose in this step.

        S(y v) = S(y) + log p(v | y) - diversity * n_v,
        n_v    hypotheses of the groups before that go on by token v in this step

    The penalty stays in the score (the Hamming form). Hypotheses that end are not counted, nor are groups that have
    ended. With `diversity` 0 each group is beam search of width W; one group is beam search.

    Attributes:
      groups: G; the hypotheses of a prompt divide over them.

    Settings: `diversity` >= 0, traced, 0.5 if not given.

    Raises:
      ValueError: for fewer than one group.

    Exactness: heuristic. Reference: Diverse Beam Search, arXiv:1610.02424.
    """

    groups: int = 2

    def __post_init__(self):
        check_fields(self)
        if self.groups < 1:
            raise ValueError(f"groups must be at least 1, got {self.groups}")

    @property
    def knobs(self) -> dict[str, Knob]:
        """`diversity`."""
        return {"diversity": Knob(0.5, low=0.0)}

    def choose(self, params: Params, seen: Continuations, count: int) -> Choice:
        """See `BeamRule.choose`."""
        prompts, hypotheses, size = seen.law.shape
        width = hypotheses // self.groups
        penalty = seen.knobs["diversity"][:, None, None]
        prompt = jnp.arange(prompts, dtype=jnp.int32)[:, None]

        def group(taken: jax.Array, one: tuple[jax.Array, jax.Array]):
            law, scores = one
            total = scores[..., None] + law - penalty * taken[:, None]
            score, source, token = best_of(total, count)
            goes = jnp.isfinite(score) & ~seen.ends(token)
            goes &= jnp.cumsum(goes, axis=-1) <= width
            taken = taken.at[prompt, token].add(goes.astype(jnp.float32))
            return taken, (source, token, score)

        split = lambda x: jnp.moveaxis(x.reshape(prompts, self.groups, width, *x.shape[2:]), 1, 0)
        none = jnp.zeros((prompts, size), jnp.float32)
        _, found = jax.lax.scan(group, none, (split(seen.law), split(seen.scores)))
        source, token, score = (jnp.moveaxis(x, 0, 1) for x in found)
        first = width * jnp.arange(self.groups, dtype=jnp.int32)[:, None]
        return Choice(source + first, token, score)
