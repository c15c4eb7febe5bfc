"""Plain decoding: one forward of the target a token. The baseline that every other decoder is measured against."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.decoding import (
    Exactness,
    Info,
    Request,
    Rows,
    Settings,
    read_prompts,
    target_params,
)
from jaxdec.model import Inputs, Model, Params, score
from jaxdec.sampling import top_tokens


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AutoregressiveState:
    """What a step reads.

    Attributes:
      rows: committed tokens.
      settings: the request's settings.
      cache: the target's, one token behind the rows.
    """

    rows: Rows
    settings: Settings
    cache: Any


class DrawnToken(NamedTuple):
    """What a token rule drew.

    Attributes:
      token: int32 `[B]`.
      log_prob: float32 `[B]`, under the law that it was drawn from; where it is not finite the row ends without it.
      own: `Info.own`.
    """

    token: jax.Array
    log_prob: jax.Array
    own: Any = None


@dataclasses.dataclass(frozen=True)
class Autoregressive:
    """See `autoregressive`."""

    model: Model
    width: int = 1
    exactness: Exactness = Exactness.TOKEN_IDENTICAL

    def _scored_rows(self, rows: Rows) -> int | jax.Array:
        """Positions that the forward of a step computes for each row."""
        return 1 if rows.order is None else self.model.scored_rows(1, 1, rows.order.size)

    def check(self, request: Request, params: Params) -> None:
        """Nothing beyond what `prepare` checks."""

    def init(self, params: Params, request: Request) -> AutoregressiveState:
        """Reads the prompts."""
        return AutoregressiveState(
            rows=Rows.start(request, self.model.vocab_size),
            settings=request.settings,
            cache=read_prompts(self.model, target_params(params), request)[0],
        )

    def step(
        self, params: Params, state: AutoregressiveState, rng: jax.Array
    ) -> tuple[AutoregressiveState, Info]:
        """Scores the pending token of each row and draws the next one."""
        rows, settings = state.rows, state.settings
        inputs = Inputs.causal(rows.pending[:, None], rows.length - 1)
        output = score(self.model, target_params(params), inputs, state.cache, rows.order)
        logits = output.logits[:, 0]
        drawn = self.draw(settings, rows, logits, rng)
        token, log_probs = drawn.token[:, None], drawn.log_prob[:, None]
        raw_log_probs = jnp.take_along_axis(logits, token, axis=-1)
        raw_log_probs -= jax.nn.logsumexp(logits, axis=-1, keepdims=True)

        room = state.cache.capacity - state.cache.length
        rows, count = rows.advance(
            settings, token, jnp.ones_like(rows.length), jnp.isfinite(log_probs), room=room
        )
        # The pending token was scored, so its entry is stored whether or not a token followed it.
        key_spans = visibility.causal(inputs.positions).key_spans
        cache = state.cache.commit(output.entries, jnp.zeros_like(token), count, key_spans)
        ran = state.rows.running.astype(jnp.int32)
        info = Info.undrafted(
            tokens=token,
            start=rows.length - count,
            count=count,
            log_probs=log_probs,
            raw_log_probs=raw_log_probs,
            target_forwards=ran,
            target_rows=ran * self._scored_rows(rows),
            status=rows.status,
            steps=jnp.broadcast_to(state.rows.rounds[:, None], token.shape),
            top=top_tokens(output.logits[:, :1], rows.top_log_probs),
            own=drawn.own,
        )
        return AutoregressiveState(rows, settings, cache), info

    def draw(
        self, settings: Settings, rows: Rows, logits: jax.Array, rng: jax.Array
    ) -> "DrawnToken":
        """The token rule, the one thing in which a decoder of one token a step may differ: here `law + noise`.

        Args:
          settings: of the request.
          rows: before the step.
          logits: float32 `[B, V]`, of the target, after the pending tokens.
          rng: row keys `[B]`.
        """
        law = settings.warp.log_probs(logits, rows.history)
        noise = settings.warp.token_noise(rng, rows.length, law.shape[-1])
        token = settings.warp.draw(law, noise)
        return DrawnToken(token, jnp.take_along_axis(law, token[:, None], axis=-1)[:, 0])


def autoregressive(model: Model) -> Autoregressive:
    """Plain decoding, greedy or sampled.

        x_t = argmax_v [ log p(v | x_{<t}) + g_{t,v} ],   g Gumbel noise keyed by the row and t

    with p the warped law of the target (`jaxdec.sampling.Warp`): a draw from p, and the most probable token at
    temperature 0.

    Args:
      model: the target.

    Exactness: token-identical (it is the reference). One forward a token.
    """
    return Autoregressive(model)
