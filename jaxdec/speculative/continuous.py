"""Speculation on continuous tokens: drafts of Gaussian laws, such as those of diffusion heads.

Legend: B rows, D dimensions of a token, T steps of a denoising chain.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.sampling import Purpose, key_at, uniform
from jaxdec.speculative.tree import check_sizes


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Gaussian:
    """Independent normal laws, `mean` and `scale` `[B, D]`; scales are standard deviations."""

    mean: jax.Array
    scale: jax.Array

    def log_density(self, x: jax.Array) -> jax.Array:
        """At `x [B, D]`, `[B]`."""
        z = (x - self.mean) / self.scale
        return -(0.5 * z**2 + jnp.log(self.scale) + 0.5 * jnp.log(2 * jnp.pi)).sum(-1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Judged:
    """What became of a draft in each row.

    Attributes:
      value: float32 `[B, D]`, the draft where it was accepted, else a draw in its place.
      accepted: bool `[B]`.
      tried: int32 `[B]`, draws that were made in its place; 0 where it was accepted.
      settled: bool `[B]`, whether it was accepted or one of these was kept.
    """

    value: jax.Array
    accepted: jax.Array
    tried: jax.Array
    settled: jax.Array


def chain_volume(p_scales: jax.Array, q_scales: jax.Array) -> jax.Array:
    """log of `prod sigma_q / sigma_p` over steps and dimensions `[B, T, D]`, `[B]`: what two chains with the same noise
    differ by in their densities, but for the means of their last steps."""
    return (jnp.log(q_scales) - jnp.log(p_scales)).sum((-2, -1))


def log_acceptance(
    x: jax.Array, p: Gaussian, q: Gaussian, volume: jax.Array | float = 0.0
) -> jax.Array:
    """log of the probability `min(1, e^volume p(x) / q(x))` that a draft `x [B, D]` is accepted, `[B]`."""
    return jnp.minimum(0, volume + p.log_density(x) - q.log_density(x))


def keeping(x: jax.Array, p: Gaussian, q: Gaussian, volume: jax.Array | float = 0.0) -> jax.Array:
    """The probability `[1 - q(x) / (e^volume p(x))]+` `[B]` that `x [B, D]` from p replaces a rejected draft."""
    return jnp.maximum(0, -jnp.expm1(q.log_density(x) - volume - p.log_density(x)))


@typed
def continuous_ratio(
    keys: jax.Array,
    place: jax.Array,
    draft: jax.Array,
    p: Gaussian,
    q: Gaussian,
    *,
    volume: jax.Array | float = 0.0,
    tries: int = 100,
) -> Judged:
    """Judges drafts by their densities; a rejected one is replaced by a draw from what is left of the target's law.

        accept x ~ q iff   u < e^volume p(x) / q(x);   else draw x ~ p until   u < 1 - q(x) / (e^volume p(x))

    The draws in its place have the law `[e^volume p - q]+`, normalised, with no need of the norm.

    Args:
      keys: row keys `[B]`.
      place: int32 `[B]`, the token's place in its row: no two have the same.
      draft: float32 `[B, D]`.
      p: the target's law, of the last step of its chain.
      q: the drafter's, of the last step of its chain.
      volume: `chain_volume` of the steps before; 0 for a single step.
      tries: draws in place of a rejected draft, at least 1; where none is kept, the last one stands.

    Raises:
      ValueError: if `tries < 1`.

    Exactness: with `volume = 0` the law is p, but for rows that are not settled: those are fewer than
    `TV(p, q) (1 - TV(p, q))^tries` and off by no more. For chains of several steps it is approximate: a density along
    the chain stands for that of the token, and the two chains must share all of their noise; equal chains accept
    everything.
    Source: continuous speculative decoding (CSpD), 2411.11925. The loop of masked models around it is left out, and so
    is what its code does besides: distances are not divided by 42, and drafts that fail all tries are not zero.
    """
    check_sizes(tries=tries)
    accepted = jnp.log(uniform(key_at(keys, Purpose.ACCEPT, place, 0 * place))) < log_acceptance(
        draft, p, q, volume
    )

    def again(state: Judged) -> Judged:
        open_, turn = ~state.settled, state.tried + 1
        noise = jax.vmap(lambda key: jax.random.normal(key, draft.shape[1:], jnp.float32))(
            key_at(keys, Purpose.RESIDUAL, place, turn)
        )
        x = p.mean + p.scale * noise
        u = uniform(key_at(keys, Purpose.ACCEPT, place, turn))
        return Judged(
            jnp.where(open_[:, None], x, state.value).astype(state.value.dtype),
            state.accepted,
            jnp.where(open_, turn, state.tried),
            state.settled | (u < keeping(x, p, q, volume)),
        )

    start = Judged(draft, accepted, jnp.zeros(accepted.shape, jnp.int32), accepted)
    going = lambda state: (~state.settled & (state.tried < tries)).any()
    return jax.lax.while_loop(going, again, start)


def reflected(
    keys: jax.Array, place: jax.Array, draft: jax.Array, p: Gaussian, q: Gaussian
) -> Judged:
    """Judges drafts of laws of one scale; a rejected one is mirrored, so that nothing is drawn anew.

        accept x = m_q + s z iff   u < p(x) / q(x);   else   m_p + s (z - 2 (z e) e),   e along (m_p - m_q) / s

    Of all couplings of the two laws none gives equal values more often. Step by step along a denoising chain it is
    exact: a chain of the target's law is kept up to the first step at which the two differ.

    Args:
      keys: row keys `[B]`.
      place: int32 `[B]`, of the step: no two have the same.
      draft: float32 `[B, D]`.
      p: the target's law.
      q: the drafter's; its scale must be that of p.

    Exactness: the law is p.
    Source: the reflection coupling of Gaussians (Bou-Rabee, Eberle and Zimmer, 2020), which is to CSpD what an exact
    rule would be.
    """
    u = uniform(key_at(keys, Purpose.ACCEPT, place, 0 * place))
    accepted = jnp.log(u) < log_acceptance(draft, p, q)
    z, apart = (draft - q.mean) / q.scale, (p.mean - q.mean) / q.scale
    along = (z * apart).sum(-1, keepdims=True)
    square = (apart**2).sum(-1, keepdims=True)
    mirrored = z - 2 * along / jnp.where(square > 0, square, 1) * apart
    value = jnp.where(accepted[:, None], draft, p.mean + p.scale * mirrored)
    done = jnp.ones(accepted.shape, bool)
    return Judged(value, accepted, (~accepted).astype(jnp.int32), done)
