"""Adaptive weighted rejection sampling: a constrained token from a few tests, and an unbiased weight for it.

Local masking asks the constraint about every token and forgets how much of the law it threw away. Here tokens are
tested in the order in which they would be drawn, until one is accepted, and a few more estimate what was thrown away.

Legend: B rows, V vocabulary, K tokens that are tested at most, A accepted draws at most.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.autoregressive import Autoregressive, DrawnToken
from jaxdec.decoding import Exactness, Rows, Settings
from jaxdec.model import Model
from jaxdec.sampling import Purpose, gumbel, key_at, uniform

Oracle = Callable[[Settings, Rows, jax.Array], jax.Array]
"""`(settings, rows, tokens [B, K]) -> bool [B, K]`, which tokens may come next; a function, compared by value."""


@dataclasses.dataclass(frozen=True)
class Awrs(Autoregressive):
    """See `awrs`."""

    exactness: Exactness = Exactness.APPROXIMATE
    max_rejects: int = 32
    max_accepts: int = 2
    proper: bool = True
    oracle: Oracle | None = None

    def draw(self, settings: Settings, rows: Rows, logits: jax.Array, rng: jax.Array) -> DrawnToken:
        """The first token that is accepted, and the log of its weight in `own["log_weight"]`."""
        history = rows.history
        warp = dataclasses.replace(settings.warp, constraint=None)
        law, penalised = warp.staged(logits, history)
        noise = warp.noise(lambda: key_at(rng, Purpose.TOKEN, rows.length), law.shape)
        greedy = jnp.zeros(rows.length.shape, bool)
        if warp.temperature is not None:
            greedy = jnp.asarray(warp.temperature) < jnp.finfo(jnp.float32).tiny
            # The order of the tests is the limit of those of small temperatures.
            ordered = greedy[:, None] & ~jnp.isnan(law)
            law = jnp.where(ordered, jax.nn.log_softmax(penalised), law)
            noise = jnp.where(greedy[:, None], 0.0, noise)

        def accepts(tokens):
            allowed = jnp.ones(tokens.shape, bool)
            if settings.warp.constraint is not None:
                allowed &= settings.warp.constraint.accepts(history.text, history.state, tokens)
            return allowed if self.oracle is None else allowed & self.oracle(settings, rows, tokens)

        if self.proper and self.max_accepts > 2:
            more = lambda turn: gumbel(
                key_at(rng, Purpose.DRAFT, rows.length, jnp.full_like(rows.length, turn)),
                law.shape[1],
            )
            tests = jnp.arange(self.max_accepts * self.max_rejects).reshape(self.max_accepts, -1)
            uniforms = lambda turn: uniform(
                key_at(rng, Purpose.ACCEPT, rows.length[:, None], tests[turn][None])
            )
            found = self._drawn_again(law, noise, accepts, more, uniforms)
        else:
            found = self._drawn_once(law, noise, accepts)
        token, log_weight = found
        dead = jnp.isneginf(log_weight)
        log_prob = jnp.take_along_axis(law, token[:, None], axis=1)[:, 0]
        log_prob = jnp.where(dead, -jnp.inf, jnp.where(greedy, 0.0, log_prob))
        log_weight = jnp.where(greedy | (not self.proper), 0.0, log_weight)
        log_weight = jnp.where(rows.running, jnp.where(dead, -jnp.inf, log_weight), 0.0)
        return DrawnToken(token, log_prob, {"log_weight": log_weight})

    def _drawn_once(self, law: jax.Array, noise: jax.Array, accepts: Any) -> Any:
        """Token and log weight `[B]` by the recursive estimator."""
        order, log_probs, tail = candidates(law, law + noise, self.max_rejects)
        place, log_weight = recursive_weight(log_probs, accepts(order), tail)
        return jnp.take_along_axis(order, place[:, None], axis=1)[:, 0], log_weight

    def _drawn_again(
        self, law: jax.Array, noise: jax.Array, accepts: Any, more: Any, uniforms: Any
    ) -> Any:
        """Token and log weight `[B]` by the geometric estimator: draws until A were accepted."""
        batch, most = len(law), self.max_rejects
        rows = jnp.arange(batch)[:, None]

        def turn(number, carry):
            token, accepted, rejects, open_, left = carry
            drawn = jax.lax.cond(number == 0, lambda: noise, lambda: more(number))
            order, log_probs, tail = candidates(left, left + drawn, most)
            allowed = accepts(order) & (log_probs > -jnp.inf)
            place, found = jnp.argmax(allowed, axis=1), allowed.any(1)
            mass = _mass_from(log_probs, tail)
            again = repeats(mass, uniforms(number)[:, : order.shape[1]], most)
            before = jnp.arange(order.shape[1])
            again = jnp.where(before <= place[:, None], again, 0).sum(1)
            total = jnp.where(found, jnp.minimum(rejects + again + place, most), most)
            taken = open_ & found & (total < most)
            rejects = jnp.where(open_, total, rejects)
            first = jnp.take_along_axis(order, place[:, None], axis=1)[:, 0]
            token = jnp.where(taken & (accepted == 0), first, token)
            out = jnp.where(before < place[:, None], order, law.shape[1])
            left = left.at[rows, out].set(-jnp.inf, mode="drop")
            return token, accepted + taken, rejects, taken, left

        none = jnp.zeros((batch,), jnp.int32)
        start = none, none, none, jnp.ones((batch,), bool), law
        after = jax.lax.fori_loop(jnp.int32(0), jnp.int32(self.max_accepts), turn, start)
        token, accepted, rejects, *_ = after
        return token, geometric_weight(accepted, rejects, self.max_accepts)


def candidates(
    law: jax.Array, keys: jax.Array, most: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The tokens that are tested, in their order: with Gumbel noise in the keys, draws without replacement.

    Args:
      law: float32 `[B, V]`, log-probabilities.
      keys: float32 `[B, V]`, `law` with noise.
      most: K.

    Returns:
      Tokens int32 `[B, K]`, their log-probabilities `[B, K]`, and the log of the mass of all others `[B]`.
    """
    # A law that is none has keys of NaN: nothing is accepted, and the row ends as with any other rule.
    _, order = jax.lax.top_k(keys, min(most, law.shape[1]))
    order = order.astype(jnp.int32)
    log_probs = jnp.take_along_axis(law, order, axis=1)
    others = law.at[jnp.arange(len(law))[:, None], order].set(-jnp.inf)
    return order, log_probs, jax.nn.logsumexp(others, axis=1)


def recursive_weight(
    log_probs: jax.Array, accepted: jax.Array, tail: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The place of the first token that is accepted, and the log of its weight.

    With p the tokens in the order of their tests, t the first that is accepted and R the mass before it:

        w = 1 - R    if the next token is accepted too, if there is none, or if t is the last to be tested
            p_t      otherwise
            0        if no token is accepted

    Then `E[w 1{x = v}] = p_v c_v` for every token v, c its acceptance: the weight is the normaliser of local masking,
    in expectation. What is left of the mass is summed from its end, so that nothing is cancelled where R is near 1.

    Args:
      log_probs: `[..., K]`, in the order of the tests.
      accepted: bool `[..., K]`.
      tail: `[...]`, the log of the mass of the tokens that are not among those.

    Returns:
      `(place, log_weight)`, int32 and float `[...]`; -inf where no token is accepted.
    """
    size = log_probs.shape[-1]
    possible = log_probs > -jnp.inf
    accepted &= possible
    place = jnp.argmax(accepted, axis=-1).astype(jnp.int32)
    at = lambda x, i: jnp.take_along_axis(x, i[..., None], axis=-1)[..., 0]
    after = jnp.minimum(place + 1, size - 1)
    whole = (place == size - 1) | at(accepted | ~possible, after)
    mass = _mass_from(log_probs, tail)
    log_weight = jnp.where(whole, at(mass, place), at(log_probs, place) - _total(log_probs, tail))
    return place, jnp.where(accepted.any(-1), log_weight, -jnp.inf)


def geometric_weight(accepted: jax.Array, rejected: jax.Array, most: int) -> jax.Array:
    """The log of the weight after independent draws until `most` of them were accepted, or too many rejected.

        w = min(A - 1, a) / (a + r - 1),   0 for a = 0

    `E[w]` is the probability of acceptance, whatever the number is after which rejections end the draws.

    Args:
      accepted: int32 `[...]`, a.
      rejected: int32 `[...]`, r.
      most: A, at least 2.
    """
    whole = jnp.minimum(accepted, most - 1) / jnp.maximum(accepted + rejected - 1, 1)
    return jnp.where(accepted > 0, jnp.log(whole), -jnp.inf)


def repeats(mass: jax.Array, uniforms: jax.Array, most: int) -> jax.Array:
    """How often a draw would have hit tokens that were rejected before, int32 `[...]`, `most` at most.

    Geometric, each time with the probability R = 1 - mass: `floor(log u / log R)`.

    Args:
      mass: `[...]`, the log of the mass of the tokens that are left.
      uniforms: in [0, 1), `[...]`.
      most: a bound.
    """
    rejected = jnp.log(-jnp.expm1(jnp.minimum(mass, 0.0)))
    times = jnp.floor(jnp.log1p(-uniforms) / jnp.minimum(rejected, -1e-30))
    return jnp.minimum(times, most).astype(jnp.int32)


def _total(log_probs: jax.Array, tail: jax.Array) -> jax.Array:
    """The log of the mass of all tokens, 0 but for rounding and for tokens that were taken out."""
    return jnp.logaddexp(jax.nn.logsumexp(log_probs, axis=-1), tail)


def _mass_from(log_probs: jax.Array, tail: jax.Array) -> jax.Array:
    """The log of the mass of each token and all that come after it in the order `[..., K]`."""
    joined = jnp.concatenate([log_probs, tail[..., None]], axis=-1)
    return jax.lax.cumlogsumexp(joined, axis=joined.ndim - 1, reverse=True)[..., :-1]


@typed
def awrs(
    model: Model,
    *,
    max_rejects: int = 32,
    max_accepts: int = 2,
    proper: bool = True,
    oracle: Oracle | None = None,
) -> Awrs:
    """Plain decoding whose tokens are constrained by rejection, with an unbiased weight for each.

    The law is that of the request without its constraint; tokens are tested in the order of `law + noise`, so that the
    one that is accepted is the one that local masking draws with the same key. `Info.own["log_weight"]` is the log of
    its weight, `E[w 1{x = v}] = p_v c_v`: the product of a row's weights makes it properly weighted for the law of
    whole accepted texts, which local masking alone is not. `jaxdec.search` resamples by such weights. Where nothing was
    accepted the weight is 0 and the row ends with `NONFINITE`.

    A row of temperature 0 takes the most probable token that is accepted, with a weight of 1. Filters (`top_p`, ...)
    act before the constraint here, on the law that tokens are proposed from, and the weights are for that law; under
    local masking they act on what the constraint left.

    Args:
      model: the target.
      max_rejects: K, tokens that are tested for one token at most. Whatever it is, weights are unbiased; a row dies
        more often where it is small.
      max_accepts: A; 2 for the recursive estimator, with one test more than plain rejection. More for the geometric
        one, which draws until A were accepted: its variance decreases with A.
      proper: False for weights of 1 throughout: local masking by few tests, exact where K is the vocabulary.
      oracle: accepts tokens beside the request's `constraint`, on the device; such as a check by another model.

    Raises:
      ValueError: if `max_rejects < 1` or `max_accepts < 2`.

    Exactness: approximate: tokens are those of local masking as `max_rejects` grows (a weighted row is one particle of
    the conditional law, whose approximation improves with their number). Without a constraint it is plain decoding, and
    weights are 1.
    Source: Lipkin et al. (2504.05410): the recursive and the geometric estimator. Here K tokens are tested at once, and
    the larger estimator is chosen by `max_accepts` alone.
    """
    if max_rejects < 1:
        raise ValueError(f"max_rejects must be at least 1, got {max_rejects}")
    if max_accepts < 2:
        raise ValueError(f"max_accepts must be at least 2, got {max_accepts}")
    return Awrs(
        model,
        max_rejects=max_rejects,
        max_accepts=max_accepts,
        proper=proper,
        oracle=oracle,
    )
