"""Unmasking policies: which positions of the active group are committed in a step.

A policy is a frozen dataclass; the numbers in it are defaults of traced knobs, which `generate` takes by name
(`generate(decoder, ..., threshold=0.8)`), so that a change of them compiles nothing. Every policy commits at least one
position a step, except `ancestral`, whose last step commits all that is left.

Legend: B rows, W positions of the active group, m positions that the group had to fill, S steps a group.
"""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from jaxdec.decoding import Exactness, Knob
from jaxdec.diffusion.candidates import (
    VALUE_DEPENDENT,
    Candidates,
    Score,
    check_score,
    ranked,
    top,
)

Knobs = Mapping[str, jax.Array]
Spread = Literal["even", "linear_time", "cosine"]
"""How the positions of a group are spread over its steps; see `quota`."""
# The value of a knob is traced, so equal programs stay equal.
_default = lambda: dataclasses.field(compare=False)


class Unmask(abc.ABC):
    """A policy. Subclasses are frozen dataclasses; all methods are pure."""

    @property
    def knobs(self) -> dict[str, Knob]:
        """The traced settings, with their defaults."""
        return {}

    @property
    def value_dependent(self) -> bool:
        """Whether the choice of positions looks at the tokens that were drawn."""
        return False

    @property
    def exactness(self) -> Exactness:
        """What decoding by this policy promises, with no approximate cache."""
        return Exactness.HEURISTIC

    def init(self, batch: int, window: int) -> Any:
        """The state at the beginning of a group."""
        return None

    @abc.abstractmethod
    def choose(self, seen: Candidates, state: Any, knobs: Knobs) -> tuple[jax.Array, Any]:
        """Which allowed positions are committed, bool `[B, W]`, and the next state."""

    def ahead(self, seen: Candidates, knobs: Knobs) -> tuple[jax.Array, jax.Array]:
        """A guess at the steps to come, this one first: a score `[B, W]`, and positions that each commits, `[B]`."""
        return seen.score("max_prob"), jnp.ones_like(seen.step)


def quota_size(seen: Candidates, steps: jax.Array, spread: Spread = "even") -> jax.Array:
    """Positions that the step commits, int32 `[B]`; see `quota`."""
    m, step = seen.opened, seen.step
    steps = jnp.where(steps == 0, m, steps)
    steps = jnp.clip(steps, 1, jnp.maximum(m, 1))
    if spread == "even":
        count = m // steps + (step < m % steps)
    elif spread == "linear_time":
        count = seen.left // jnp.maximum(steps - step, 1)
    else:
        done = (step + 1) / steps
        left = jnp.floor(m * jnp.cos(jnp.pi / 2 * done) + 1e-4).astype(jnp.int32)
        count = seen.left - jnp.where(step + 1 >= steps, 0, jnp.maximum(left, 1))
    return jnp.maximum(count, 1)


@dataclasses.dataclass(frozen=True)
class Quota(Unmask):
    """See `quota`."""

    by: Score
    steps: int = _default()
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
    def value_dependent(self) -> bool:
        """As the score."""
        return self.by in VALUE_DEPENDENT

    @property
    def exactness(self) -> Exactness:
        """One position a step in a fixed order is sequential decoding; in a random one, a mixture of such laws."""
        if self.by in ("left_to_right", "random"):
            return Exactness.APPROXIMATE
        return Exactness.HEURISTIC

    def choose(self, seen: Candidates, state: Any, knobs: Knobs) -> tuple[jax.Array, Any]:
        """The best of the group, as many as the step's quota."""
        score = seen.score(self.by)
        if self.jittered:
            score = score + knobs["position_temperature"][:, None] * seen.jitter()
        return top(score, seen.allowed, quota_size(seen, knobs["steps"], self.spread)), state

    def ahead(self, seen: Candidates, knobs: Knobs) -> tuple[jax.Array, jax.Array]:
        """The same score again, and the quota of the step."""
        return seen.score(self.by), quota_size(seen, knobs["steps"], self.spread)


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

    Args:
      by: what ranks positions.
      steps: S, of each group (knob); 0 for one position a step.
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
    own law: max_prob, margin, entropy.
    """
    check_score(by)
    if spread not in get_args(Spread):
        raise ValueError(f"spread must be one of {', '.join(get_args(Spread))}; got {spread!r}")
    return Quota(by, steps, spread, position_temperature or 0.0, position_temperature is not None)


def left_to_right() -> "LeftToRight":
    """One position a step, the leftmost: sequential decoding, token for token."""
    return LeftToRight()


@dataclasses.dataclass(frozen=True)
class LeftToRight(Unmask):
    """See `left_to_right`."""

    @property
    def exactness(self) -> Exactness:
        """Sequential decoding of the canvas."""
        return Exactness.TOKEN_IDENTICAL

    def choose(self, seen: Candidates, state: Any, knobs: Knobs) -> tuple[jax.Array, Any]:
        """The leftmost."""
        return top(seen.score("left_to_right"), seen.allowed, jnp.ones_like(seen.step)), state

    def ahead(self, seen: Candidates, knobs: Knobs) -> tuple[jax.Array, jax.Array]:
        """The next ones."""
        return seen.score("left_to_right"), jnp.ones_like(seen.step)


def first_hitting(*, steps: int = 0) -> Quota:
    """First-hitting sampler: one uniformly chosen position a step.

    The times at which the reverse process first unmasks a position, `t <- t u^(1/n)` with n positions left, are needed
    by models that read the time alone; what remains for others is the order, which is uniform.

    Args:
      steps: of each group (knob); 0 for the exact sampler, else the parallel form.

    Exactness: with `steps=0` the law is the uniform mixture over all orders of the model's sequential laws, which is
    the limit of ancestral sampling with ever smaller steps, and the joint law of a model whose orders agree.

    Source: 2409.02908.
    """
    return quota("random", steps=steps)


@dataclasses.dataclass(frozen=True)
class Ancestral(Unmask):
    """See `ancestral`."""

    steps: int = _default()

    @property
    def knobs(self) -> dict[str, Knob]:
        """`steps`: S."""
        return {"steps": Knob(self.steps, 1, integer=True)}

    @property
    def exactness(self) -> Exactness:
        """Approaches the first-hitting law with more steps."""
        return Exactness.APPROXIMATE

    def choose(self, seen: Candidates, state: Any, knobs: Knobs) -> tuple[jax.Array, Any]:
        """Each position by its own coin."""
        chance = 1 / jnp.maximum(knobs["steps"] - seen.step, 1)
        return seen.allowed & (seen.coins() < chance[:, None]), state


def ancestral(steps: int = 64) -> Ancestral:
    """Ancestral sampling: in step i of S each masked position is committed with probability `1 / (S - i)`.

    That is `(t - s) / t` on the linear time grid. The coin is tossed apart from the token, so that no tiny probability
    is ever compared with noise of limited range.

    Args:
      steps: S, of each group (knob).

    Exactness: approximate(steps); converges to `first_hitting`.

    Source: MDLM 2406.07524; Dream's `origin`.
    """
    if steps < 1:
        raise ValueError(f"ancestral sampling needs at least 1 step, got {steps}")
    return Ancestral(steps)


@dataclasses.dataclass(frozen=True)
class Threshold(Unmask):
    """See `threshold`."""

    threshold: float = _default()
    by: Score = "max_prob"

    @property
    def knobs(self) -> dict[str, Knob]:
        """`threshold`."""
        return {"threshold": Knob(self.threshold)}

    @property
    def value_dependent(self) -> bool:
        """As the score."""
        return self.by in VALUE_DEPENDENT

    def choose(self, seen: Candidates, state: Any, knobs: Knobs) -> tuple[jax.Array, Any]:
        """All above the threshold, and the best."""
        score = seen.score(self.by)
        best = top(score, seen.allowed, jnp.ones_like(seen.step))
        return best | seen.allowed & (score > knobs["threshold"][:, None]), state

    def ahead(self, seen: Candidates, knobs: Knobs) -> tuple[jax.Array, jax.Array]:
        """The next best one by one."""
        return seen.score(self.by), jnp.ones_like(seen.step)


def threshold(threshold: float = 0.9, *, by: Score = "max_prob") -> Threshold:
    """Every position whose score exceeds a threshold, and always the best one.

    Args:
      threshold: tau (knob); 1 commits one position a step. For `by="entropy"` minus a number of nats, such as -0.5.
      by: what is compared.

    Exactness: heuristic. If each of n tokens has a probability of at least 1 - e, and (n + 1) e <= 1, the most
    probable tokens one by one are the most probable joint ones; nothing is promised for sampling.

    Source: Fast-dLLM 2505.22618 (token_prob, which is max_prob at temperature 0); dParallel 2509.26488 (entropy).
    """
    check_score(by)
    return Threshold(threshold, by)


@dataclasses.dataclass(frozen=True)
class Factor(Unmask):
    """See `factor`."""

    factor: float = _default()
    by: Score = "max_prob"

    @property
    def knobs(self) -> dict[str, Knob]:
        """`factor`."""
        return {"factor": Knob(self.factor, 0)}

    @property
    def value_dependent(self) -> bool:
        """As the score."""
        return self.by in VALUE_DEPENDENT

    def choose(self, seen: Candidates, state: Any, knobs: Knobs) -> tuple[jax.Array, Any]:
        """The longest run of the best."""
        score = seen.score(self.by)
        places = ranked(score, seen.allowed)
        fits = seen.allowed & ((places + 2) * (1 - score) <= knobs["factor"][:, None])
        # The largest n whose own n-th score passes; earlier ones are higher, and are taken along.
        count = jnp.max(jnp.where(fits, places + 1, 1), axis=-1)
        return seen.allowed & (places < count[:, None]), state


def factor(factor: float = 1.0, *, by: Score = "max_prob") -> Factor:
    """The largest n with `(n + 1) (1 - c_n) <= f`, c_n the n-th highest score; at least one.

    Args:
      factor: f (knob).
      by: the score, in [0, 1].

    Exactness: heuristic; see `threshold` for what the bound means.

    Source: Fast-dLLM 2505.22618 (token_prob, which is max_prob at temperature 0).
    """
    check_score(by)
    return Factor(factor, by)


@dataclasses.dataclass(frozen=True)
class DynamicThreshold(Unmask):
    """See `dynamic_threshold`."""

    threshold: float = _default()
    steps: int = _default()
    by: Score = "warped_token_prob"

    @property
    def knobs(self) -> dict[str, Knob]:
        """`threshold` and `steps`."""
        return {"threshold": Knob(self.threshold), "steps": Knob(self.steps, 0, integer=True)}

    @property
    def value_dependent(self) -> bool:
        """As the score."""
        return self.by in VALUE_DEPENDENT

    def choose(self, seen: Candidates, state: Any, knobs: Knobs) -> tuple[jax.Array, Any]:
        """All above the threshold if they are enough, else the quota."""
        score = seen.score(self.by)
        count = quota_size(seen, knobs["steps"])
        high = seen.allowed & (score > knobs["threshold"][:, None])
        enough = high.sum(-1) >= count
        return jnp.where(enough[:, None], high, top(score, seen.allowed, count)), state


def dynamic_threshold(
    threshold: float = 0.9, *, steps: int = 0, by: Score = "warped_token_prob"
) -> DynamicThreshold:
    """Every position above a threshold if they are at least the step's even quota, else the best of that quota.

    Args:
      threshold: tau (knob); 1 gives `quota(by, steps=steps)`.
      steps: S, of each group (knob); 0 for a quota of one.
      by: what is compared. The published score is the warped probability of the drawn token. That looks at the draw,
        and is 1 at temperature 0, where all would be committed at once: use `"max_prob"` there.

    Exactness: heuristic.

    Source: SDAR 2510.06303.
    """
    check_score(by)
    return DynamicThreshold(threshold, steps, by)


@dataclasses.dataclass(frozen=True)
class EntropyBound(Unmask):
    """See `entropy_bound`."""

    bound: float = _default()

    @property
    def knobs(self) -> dict[str, Knob]:
        """`entropy_bound`."""
        return {"entropy_bound": Knob(self.bound, 0)}

    def choose(self, seen: Candidates, state: Any, knobs: Knobs) -> tuple[jax.Array, Any]:
        """The longest prefix within the budget."""
        score = seen.score("entropy")
        places = ranked(score, seen.allowed)
        order = jnp.argsort(places, axis=-1)
        spent = jnp.where(seen.allowed, -score, jnp.inf)
        spent = jnp.cumsum(jnp.take_along_axis(spent, order, axis=-1), axis=-1)
        count = jnp.maximum((spent < knobs["entropy_bound"][:, None]).sum(-1), 1)
        return seen.allowed & (places < count[:, None]), state

    def ahead(self, seen: Candidates, knobs: Knobs) -> tuple[jax.Array, jax.Array]:
        """The next surest one by one."""
        return seen.score("entropy"), jnp.ones_like(seen.step)


def entropy_bound(bound: float = 0.35) -> EntropyBound:
    """The surest positions as long as their entropies add up to less than a bound; at least one.

    Args:
      bound: in nats (knob); 0 commits one position a step.

    Exactness: heuristic. The sum of the entropies bounds how far the product of the tokens' laws is from their joint
    law, in nats.

    Source: the entropy-bounded rule of SDAR 2510.06303, with the entropy of the whole law.
    """
    return EntropyBound(bound)


@dataclasses.dataclass(frozen=True)
class Saber(Unmask):
    """See `saber`."""

    minimum: int = _default()

    @property
    def knobs(self) -> dict[str, Knob]:
        """`minimum`: n."""
        return {"minimum": Knob(self.minimum, 1, integer=True)}

    def init(self, batch: int, window: int) -> Any:
        """The sum of the confidences at which tokens were committed, and their number."""
        return jnp.zeros((batch,), jnp.float32), jnp.zeros((batch,), jnp.int32)

    def choose(self, seen: Candidates, state: Any, knobs: Knobs) -> tuple[jax.Array, Any]:
        """All above the mean of the past, and the best n."""
        total, count = state
        score = seen.score("max_prob")
        mean = jnp.where(count > 0, total / jnp.maximum(count, 1), 1.0)
        reveal = top(score, seen.allowed, knobs["minimum"])
        reveal |= seen.allowed & (score > mean[:, None])
        return reveal, (total + jnp.where(reveal, score, 0).sum(-1), count + reveal.sum(-1))


def saber(minimum: int = 2) -> Saber:
    """Adaptive acceleration: every position surer than the tokens of the past were on average, and the best n.

    Args:
      minimum: n (knob).

    Together with `diffusion.backtracking` this is Saber; alone it never takes a token back.

    Exactness: heuristic.

    Source: 2510.18165.
    """
    if minimum < 1:
        raise ValueError(f"at least 1 position is committed in a step, got {minimum}")
    return Saber(minimum)
