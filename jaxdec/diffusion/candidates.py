"""What a policy sees of a step: the positions of the active group, and what the model says about each.

Legend: B rows, W positions of the active group, V vocabulary.
"""

import dataclasses
import difflib
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from jaxdec.decoding import Scored, Settings
from jaxdec.diffusion.canvas import Canvas
from jaxdec.sampling import History, Purpose, Warp, key_at, perturbed_argmax
from jaxdec.sampling.noise import gumbel, uniform
from pallas_kernels.unmask import Statistics, Unmasked, statistics, unmask

Score = Literal[
    "random",
    "left_to_right",
    "max_prob",
    "token_prob",
    "margin",
    "entropy",
    "warped_max_prob",
    "warped_token_prob",
    "warped_margin",
    "warped_entropy",
]
"""What ranks positions; larger is committed first.

    random           a uniform number of the position
    left_to_right    minus the position
    max_prob         max_v p(v)
    token_prob       p(x), of the token that was drawn
    margin           p(first) - p(second)
    entropy          sum_v p(v) log p(v), the negative entropy
    warped_...       the same of the warped law q

p is the model's own law, q the warped one (temperature, top-p, ...), which tokens are drawn from. A score of the token
that was drawn looks at the noise of the draw: even one token a step then no longer samples the model's law. All others
do not, and fix which positions are committed independently of what stands there.

At temperature 0 all mass of q is on one token, so that q says nothing of how sure the model is: every `warped_...`
score of such a row is that of p instead, and `warped_token_prob` the probability of the most probable token.
"""

VALUE_DEPENDENT = ("token_prob", "warped_token_prob")
PROBABILITIES = ("max_prob", "margin", "warped_max_prob", "warped_margin", *VALUE_DEPENDENT)
"""Scores that are probabilities or differences of two."""


def check_score(kind: str) -> None:
    """Raises `ValueError` for a score that does not exist."""
    if kind not in get_args(Score):
        near = difflib.get_close_matches(str(kind), get_args(Score), 1, 0.0)[0]
        raise ValueError(
            f"score must be one of {', '.join(get_args(Score))}; got {kind!r}, the nearest is {near!r}"
        )


class Progress(NamedTuple):
    """How far the whole canvas is, int32 `[B]` each.

    Attributes:
      begin: the first position that is generated.
      size: positions that are generated.
      left: those that are not committed.
    """

    begin: jax.Array
    size: jax.Array
    left: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Candidates:
    """The active group in one step.

    Attributes:
      own: of the model's own law at each position, after guidance and fusion, `[B, W]` each: the log-probabilities of
        the token drawn there and of the two most probable, the entropy, the log-sum-exp of the logits.
      warped: of the law that tokens are drawn from.
      tokens: int32 `[B, W]`, a draw for each position; what stands there where a token is committed already, and then
        it is not the token that `log_prob` of `own` and `warped` is about.
      places: int32 `[B, W]`, positions of the canvas.
      allowed: bool `[B, W]`, positions that may be committed: of the group and not committed.
      committed: bool `[B, W]`, positions of the group that are.
      leading: bool `[B, W]`, positions after one of another unit: the first of a block.
      step: int32 `[B]`, steps taken in this group.
      opened: int32 `[B]`, positions that the group had to fill when it began.
      steps: int32 `[B]`, steps taken by the row.
      keys: row keys `[B]`.
      greedy: bool `[B]`, rows at temperature 0.
      canvas_progress: of the whole canvas, whatever its groups.
      scored: the forward over the group, `[B, W, ...]`: logits (after a fusion, if there is one), hidden states, and
        those of the layers that the model was asked for. What no part reads is not computed.
      hypotheses: H, adjacent rows of one prompt; static.
      drawn: int32 `[B, W]`, the draw for each position, those of committed tokens too; None where it is not known.
      settings: of the request, for what ends a row; None where nothing does.
      end_weight: float32 `[B]`, what scores that are probabilities are multiplied by where the token ends its row; None
        for 1.
      canvas: everything as it was before the step; None where it is not known.
    """

    own: Statistics
    warped: Statistics
    tokens: jax.Array
    places: jax.Array
    allowed: jax.Array
    committed: jax.Array
    leading: jax.Array
    step: jax.Array
    opened: jax.Array
    steps: jax.Array
    keys: jax.Array
    greedy: jax.Array
    canvas_progress: Progress
    scored: Scored
    drawn: jax.Array | None = None
    hypotheses: int = dataclasses.field(default=1, metadata={"static": True})
    settings: Settings | None = None
    end_weight: jax.Array | None = None
    canvas: Canvas | None = None

    @property
    def likeliest(self) -> jax.Array:
        """The most probable token of the model's own law, int32 `[B, W]`."""
        return jnp.argmax(self.scored.logits, axis=-1).astype(jnp.int32)

    def ends(self, tokens: jax.Array) -> jax.Array:
        """Which of `tokens [B, W]` end their row by themselves, bool."""
        if self.settings is None:
            return jnp.zeros(tokens.shape, bool)
        return self.settings.ends(tokens)

    @property
    def left(self) -> jax.Array:
        """Positions that may be committed, int32 `[B]`."""
        return self.allowed.sum(-1, dtype=jnp.int32)

    def score(self, kind: Score) -> jax.Array:
        """float32 `[B, W]`; see `Score`. Raises `ValueError` for a score that does not exist."""
        check_score(kind)
        if kind == "random":
            return uniform(key_at(self.keys, Purpose.ORDER, self.places))
        if kind == "left_to_right":
            return -self.places.astype(jnp.float32)
        found = _score_of(self.own, kind)
        if kind.startswith("warped"):
            found = jnp.where(self.greedy[:, None], found, _score_of(self.warped, kind))
        if self.end_weight is None or kind.endswith("entropy"):
            return found
        ends = self.ends(self.tokens if kind in VALUE_DEPENDENT else self.likeliest)
        return jnp.where(ends, found * self.end_weight[:, None], found)

    def jitter(self) -> jax.Array:
        """Gumbel noise by position and step, float32 `[B, W]`."""
        steps = jnp.broadcast_to(self.steps[:, None], self.places.shape)
        return gumbel(key_at(self.keys, Purpose.ORDER, self.places, steps), 1)[..., 0]

    def coins(self) -> jax.Array:
        """Uniforms by position and step, float32 `[B, W]`."""
        steps = jnp.broadcast_to(self.steps[:, None], self.places.shape)
        return uniform(key_at(self.keys, Purpose.ORDER, self.places, steps))


def _score_of(law: Statistics, kind: Score) -> jax.Array:
    """A score of a law, float32 `[B, W]`."""
    if kind.endswith("token_prob"):
        return jnp.exp(law.log_prob)
    if kind.endswith("entropy"):
        return -law.entropy
    return law.margin if kind.endswith("margin") else law.max_prob


def draw(
    warp: Warp, logits: jax.Array, history: History | None, keys: Callable[[], jax.Array]
) -> Unmasked:
    """Draws a token for each position, and says how sure the model is there.

    Args:
      warp: the pipeline. Temperature and bans alone need one pass over the logits; other stages need the whole law.
      logits: float32 `[B, W, V]`.
      history: counts, for penalties.
      keys: makes the keys `[B, W]` of the noise.

    Returns:
      Arrays `[B, W]`.
    """
    if warp.plain:
        batch, window, size = logits.shape
        temperature, banned = warp.plain_knobs(batch)
        heat = jnp.repeat(temperature, window)
        drawn = unmask(logits.reshape(-1, size), keys().reshape(-1), heat, banned)
        return jax.tree.map(lambda x: x.reshape(batch, window), drawn)
    law = warp.log_probs(logits, history)
    tokens = perturbed_argmax(law, warp.noise(keys, law.shape)).astype(jnp.int32)
    own = statistics(jax.nn.log_softmax(logits), tokens, jax.nn.logsumexp(logits, axis=-1))
    return Unmasked(tokens, own, statistics(law, tokens))


def ranked(score: jax.Array, allowed: jax.Array) -> jax.Array:
    """The place of each position in descending order of score, int32 `[B, W]`; the lower index first among equals.

    Positions that are not allowed come last. A score that is no number ranks behind all numbers.
    """
    least = jnp.finfo(jnp.float32).min
    score = jnp.where(jnp.isnan(score), least, jnp.maximum(score, least))
    order = jnp.argsort(jnp.where(allowed, -score, jnp.inf), axis=-1, stable=True)
    return jnp.argsort(order, axis=-1).astype(jnp.int32)


def top(score: jax.Array, allowed: jax.Array, count: jax.Array) -> jax.Array:
    """The `count [B]` allowed positions of the highest score, bool `[B, W]`."""
    return allowed & (ranked(score, allowed) < count[:, None])


def best(seen: Candidates) -> jax.Array:
    """The allowed position of the highest `max_prob`, bool `[B, W]`; the first of equals, none where none is allowed.

    One whose law holds no numbers comes last, and ends its row once it is committed.
    """
    score = seen.score("max_prob")
    score = jnp.where(jnp.isnan(score), -1.0, score)  # below every probability
    first = jnp.argmax(jnp.where(seen.allowed, score, -2.0), axis=-1)
    return seen.allowed & (jnp.arange(score.shape[-1]) == first[:, None])
