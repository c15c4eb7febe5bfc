"""Particles: hypotheses that are drawn again by their weights where segments end.

Legend: P prompts, H hypotheses of a prompt (particles).
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.decoding import Decoder, Knob, at_home
from jaxdec.model import Params
from jaxdec.search.contract import Boundary, Decision, Rule, Scorer
from jaxdec.search.population import Population, population
from jaxdec.search.resampling import SCHEMES, effective_size
from jaxdec.search.segments import Segment, every_token


def weighed(log_weights: jax.Array, before: jax.Array, scores: jax.Array) -> jax.Array:
    """Log-weights `[..., H]` once a potential has changed from `before` to `scores`; -inf where it is 0 now."""
    weights = log_weights + jnp.where(jnp.isneginf(scores), -jnp.inf, scores - before)
    return jnp.where(jnp.isnan(weights), -jnp.inf, weights)


def is_few(log_weights: jax.Array, threshold: jax.Array) -> jax.Array:
    """Whether less than a share of the particles carry the weight, and any does; bool `[..., 1]`."""
    size = effective_size(log_weights)[..., None]
    return (size < threshold * log_weights.shape[-1]) & (size > 0)


def mean_weight(log_weights: jax.Array) -> jax.Array:
    """The log of the mean weight, `[..., 1]`: what each particle weighs once they were drawn again."""
    total = jax.nn.logsumexp(log_weights, axis=-1, keepdims=True)
    return total - jnp.log(jnp.asarray(log_weights.shape[-1], total.dtype))


def _drawn(scheme: str, boundary: Boundary, log_weights: jax.Array) -> jax.Array:
    """The hypothesis that each goes on from `[P, H]`, by log-weights `[P, H]`; all stay where no weight is left."""
    known = jnp.isfinite(jax.nn.logsumexp(log_weights, axis=1, keepdims=True))
    weights = jax.nn.softmax(jnp.where(known, log_weights, 0.0), axis=1)
    ancestors = jax.vmap(SCHEMES[scheme])(boundary.prompt_keys, weights)
    # Whoever has a successor stays in its place, and moves no cache.
    ancestors = jnp.take_along_axis(ancestors, at_home(ancestors), axis=1)
    return jnp.where(known, ancestors, boundary.here)


@dataclasses.dataclass(frozen=True)
class EffectiveSize(Rule):
    """Sequential Monte Carlo: resamples where the effective number of particles falls below a share of them."""

    scheme: str = "systematic"

    @property
    def knobs(self) -> dict[str, Knob]:
        """`ess_threshold`, the share of the particles below which they are drawn again."""
        return {"ess_threshold": Knob(0.5, low=0.0, high=1.0)}

    def decide(self, params: Params, boundary: Boundary) -> Decision:
        """Weights take in the change of the scores; then particles are drawn again, or not."""
        stay = Decision.stay(boundary)
        before, scores = (boundary.by_prompt(x) for x in (boundary.before, boundary.pool.scores))
        threshold = boundary.by_prompt(boundary.settings.knobs["ess_threshold"])[:, :1]
        weights = weighed(stay.log_weights, before, scores)
        few = is_few(weights, threshold) & boundary.by_prompt(boundary.live).any(1, keepdims=True)
        drawn = _drawn(self.scheme, boundary, weights)
        return dataclasses.replace(
            stay,
            source=jnp.where(few, drawn, boundary.here),
            log_weights=jnp.where(few, mean_weight(weights), weights),
        )


@dataclasses.dataclass(frozen=True)
class RewardWeights(Rule):
    """Particle filtering: at every boundary particles are drawn again by their present rewards."""

    scheme: str = "systematic"

    @property
    def knobs(self) -> dict[str, Knob]:
        """`reward_temperature`, by which scores are divided."""
        return {"reward_temperature": Knob(1.0, low=0.0)}

    def decide(self, params: Params, boundary: Boundary) -> Decision:
        """Weights are the scores of this boundary alone."""
        stay = Decision.stay(boundary)
        temperature = boundary.by_prompt(boundary.settings.knobs["reward_temperature"])[:, :1]
        scores = boundary.by_prompt(boundary.pool.scores)
        scores = jnp.where(jnp.isnan(scores), -jnp.inf, scores)
        best = jnp.max(scores, axis=1, keepdims=True)
        best = jnp.where(jnp.isfinite(best), best, 0.0)
        sharp = temperature < jnp.finfo(jnp.float32).tiny
        weights = (scores - best) / jnp.where(sharp, 1.0, temperature)
        weights = jnp.where(sharp, jnp.where(scores == best, 0.0, -jnp.inf), weights)
        return dataclasses.replace(stay, source=self.drawn(boundary, weights), log_weights=weights)

    def drawn(self, boundary: Boundary, log_weights: jax.Array) -> jax.Array:
        """The hypothesis that each goes on from, `[P, H]`, by log-weights `[P, H]`."""
        return _drawn(self.scheme, boundary, log_weights)


def smc(
    decoder: Decoder,
    *,
    segment: Segment | None = None,
    potential: Scorer | None = None,
    scheme: str = "systematic",
) -> Population:
    """Sequential Monte Carlo: particles with weights, drawn again where few of them carry the weight.

        log w += log w_step + log psi(x_{<=t}) - log psi(x_{<t'})
        if (sum w)^2 / sum w^2 < ess_threshold H:  ancestors ~ w,  w = mean w

    with `log w_step` what the decoder gives with each token (`awrs`), and psi a potential of the past, read where
    segments end; only its last value is in the final weights, as those before steer what is drawn again. The mean
    weight is an unbiased estimate of the mass of the target `p(x) w(x) psi(x)` (`Pool.log_evidence`).

    Args:
      decoder: draws tokens, with weights or without.
      segment: where particles are compared; after every token if not given.
      potential: log psi, such as `scorers.of_tokens`; none if not given.
      scheme: of resampling, a name in `resampling.SCHEMES`.

    The knob `ess_threshold` in [0, 1] is 0.5 unless the request says otherwise; 0 never draws again.

    Raises:
      ValueError: for an unknown scheme.

    Exactness: heuristic for one row; weighted, the particles approach the target as H grows. One particle without
    potentials is the decoder.
    Source: Del Moral, Doucet, Jasra 2006; steering of language models, 2306.03081, 2504.13139.
    """
    _check_scheme(scheme)
    return population(
        decoder, segment=segment or every_token(), rule=EffectiveSize(scheme), scorer=potential
    )


def particle_filter(
    decoder: Decoder,
    reward: Scorer,
    *,
    segment: Segment,
    scheme: str = "systematic",
) -> Population:
    """Particle filtering with a process reward: after every step of reasoning, particles are drawn by their rewards.

        ancestors ~ softmax(score / reward_temperature)

    with the score the logit of a reward r in (0, 1), so that at temperature 1 a particle weighs `r / (1 - r)`. The
    weights are those of the present step alone, and particles that have ended take part with their last.

    Args:
      decoder: draws the steps.
      reward: scores a past, as a logit.
      segment: a step of reasoning, such as `until([newline])`.
      scheme: of resampling, a name in `resampling.SCHEMES`; the published code draws multinomially.

    The knob `reward_temperature` is 1 unless the request says otherwise; at 0 all go on from the best.

    Raises:
      ValueError: for an unknown scheme.

    Exactness: heuristic. One particle is the decoder.
    Source: 2502.01618. We draw systematically unless asked otherwise, which has less variance.
    """
    _check_scheme(scheme)
    return population(decoder, segment=segment, rule=RewardWeights(scheme), scorer=reward)


def _check_scheme(scheme: str) -> None:
    if scheme not in SCHEMES:
        raise ValueError(f"scheme must be one of {', '.join(SCHEMES)}, got {scheme!r}")
