"""A fixed number of positions a step.

Legend: B rows, W positions of the active group, m positions that the group had to fill, S steps a group.
"""

import dataclasses
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Exactness, Knob
from jaxdec.diffusion.candidates import Candidates, Score, check_score, top
from jaxdec.diffusion.contract import Knobs, Unmask, knob_default
from jaxdec.model import Params

Spread = Literal["even", "linear_time", "cosine", "doubling"]
"""How the positions of a group are spread over its steps; see `quota`."""


def quota_steps(seen: Candidates, steps: jax.Array, spread: Spread = "even") -> jax.Array:
    """S, the steps that the group takes, int32 `[B]`; `steps` is the knob."""
    most = jnp.maximum(seen.opened, 1)
    if spread == "doubling":
        most = jnp.maximum(31 - jax.lax.clz(most), 1)
    return jnp.clip(jnp.where(steps == 0, most, steps), 1, most)


def quota_size(seen: Candidates, steps: jax.Array, spread: Spread = "even") -> jax.Array:
    """Positions that the step commits, int32 `[B]`; see `quota`."""
    m, step = seen.opened, seen.step
    steps = quota_steps(seen, steps, spread)
    if spread == "doubling":
        count = jnp.where(step + 1 >= steps, seen.left, 1 << jnp.minimum(step, 30))
    elif spread == "even":
        count = m // steps + (step < m % steps)
    elif spread == "linear_time":
        count = seen.left // jnp.maximum(steps - step, 1)
    else:
        done = (step + 1).astype(jnp.float32) / steps
        left = jnp.floor(m * jnp.cos(jnp.pi / 2 * done) + 1e-4).astype(jnp.int32)
        count = seen.left - jnp.where(step + 1 >= steps, 0, jnp.maximum(left, 1))
    return jnp.maximum(count, 1)


@dataclasses.dataclass(frozen=True)
class Quota(Unmask):
    """See `quota`."""

    by: Score = dataclasses.field()  # no default, not that of `Unmask`
    steps: int = knob_default()
    spread: Spread = "even"
    position_temperature: float = dataclasses.field(default=0.0, compare=False)
    jittered: bool = False

    @property
    def knobs(self) -> dict[str, Knob]:
        """`steps`: S, 0 for one position a step; `position_temperature` where asked for."""
        own = {"steps": Knob(self.steps, 0, integer=True)}
        if self.jittered:
            own["position_temperature"] = Knob(self.position_temperature, 0)
        return own

    @property
    def exactness(self) -> Exactness:
        """One position a step in a fixed order is sequential decoding; in a random one, a mixture of such laws."""
        if self.by in ("left_to_right", "random"):
            return Exactness.APPROXIMATE
        return Exactness.HEURISTIC

    def choose(
        self, params: Params, seen: Candidates, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """The best of the group, as many as the step's quota."""
        score = seen.score(self.by)
        if self.jittered:
            score = score + knobs["position_temperature"][:, None] * seen.jitter()
        return top(score, seen.allowed, quota_size(seen, knobs["steps"], self.spread)), state

    def progress(self, params: Params, seen: Candidates, knobs: Knobs) -> jax.Array:
        """By steps, `s / (S - 1)`; with doubling ones `(2^(s + 1) - 1) / 2^S`, the share after the step."""
        steps = quota_steps(seen, knobs["steps"], self.spread)
        step = jnp.minimum(seen.step, steps - 1)
        if self.spread == "doubling":
            return jnp.exp2((step + 1 - steps).astype(jnp.float32)) - jnp.exp2(-1.0 * steps)
        return jnp.where(steps == 1, 1, step / jnp.maximum(steps - 1, 1)).astype(jnp.float32)

    def ahead(self, params: Params, seen: Candidates, knobs: Knobs) -> tuple[jax.Array, jax.Array]:
        """The same score again, and the quota of the step."""
        return seen.score(self.by), quota_size(seen, knobs["steps"], self.spread)


@typed
def quota(
    by: Score = "max_prob",
    *,
    steps: int = 0,
    spread: Spread = "even",
    position_temperature: float | None = None,
) -> Quota:
    """A fixed number of positions a step, those of the highest score.

        even         m // S, and one more in the first m mod S steps
        linear_time  (1 - s / t) of what is left, t = 1 - i / S, s = t - 1 / S
        cosine       m cos(pi (i + 1) / 2 S) positions left after step i
        doubling     2^i, and in the last step all that is left

    Args:
      by: what ranks positions.
      steps: S, of each group (knob); 0 for one position a step, or log2 m steps (rounded down) with `"doubling"`, which
        takes no more.
      spread: how the positions of a group are spread over its steps.
      position_temperature: if given, positions are drawn from `softmax(score / temperature)` without replacement
        (knob) rather than ranked.

    Raises:
      ValueError: for an unknown score or spread.

    Exactness: one position a step from left to right is sequential decoding, token for token; with any score that
    does not look at the drawn token, one position a step draws from the model's own sequential law along an order that
    the model picks. With more than one, tokens of a step are drawn as if independent.

    Source: LLaDA 2502.09992 (even; token_prob, random), Dream 2508.15487 (linear_time; warped_token_prob,
    warped_margin, warped_entropy; its `alg_temp` is the position temperature). At temperature 0 both score the model's
    own law, as warped scores do here. The ascending step size of 2509.23924 (doubling; its several blocks of powers of
    two, all but the first filled in one step each, are missing).
    """
    check_score(by)
    if spread not in get_args(Spread):
        raise ValueError(f"spread must be one of {', '.join(get_args(Spread))}; got {spread!r}")
    return Quota(by, steps, spread, position_temperature or 0.0, position_temperature is not None)
