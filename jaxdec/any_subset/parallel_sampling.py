"""Parallel sampling: several tokens a forward, drawn as if they were independent. What diffusion decoding does."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.decoding import Exactness, Info, Request, Rows, Settings, read_prompts, target_params
from jaxdec.model import Inputs, Model, Params
from jaxdec.sampling import top_tokens


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ParallelState:
    """What a step reads.

    Attributes:
      rows: committed tokens.
      settings: the request's settings.
      cache: up to W tokens behind the rows.
    """

    rows: Rows
    settings: Settings
    cache: Any


@dataclasses.dataclass(frozen=True)
class ParallelSampling:
    """See `parallel_sampling`."""

    model: Model
    width: int
    exactness: Exactness = Exactness.APPROXIMATE

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for a causal request, or a constraint on tokens that are drawn at once."""
        if request.order is None:
            raise ValueError("parallel sampling fills an any-subset request; use jaxdec.infill")
        if self.width > 1 and request.settings.warp.constraint is not None:
            raise ValueError(
                f"constraint reads the tokens before a place, got parallel sampling of {self.width} at once; must be 1"
            )

    def init(self, params: Params, request: Request) -> ParallelState:
        """Reads the prompts."""
        return ParallelState(
            rows=Rows.start(request, self.model.vocab_size),
            settings=request.settings,
            cache=read_prompts(self.model, target_params(params), request)[0],
        )

    def step(
        self, params: Params, state: ParallelState, rng: jax.Array
    ) -> tuple[ParallelState, Info]:
        """Scores the tokens of the last step, and draws the next W given all of them."""
        rows, settings, cache = state.rows, state.settings, state.cache
        order = rows.order
        assert order is not None
        ahead = jnp.arange(self.width)
        unseen = rows.length - cache.length  # 1 to W
        window = rows.window(cache.length, self.width)
        inputs = Inputs.causal(window, cache.length, valid=ahead < unseen[:, None])
        last = rows.length - 1
        query_spans = visibility.causal(jnp.broadcast_to(last[:, None], window.shape)).query_spans
        ranks = rows.length[:, None] + ahead
        asked = dataclasses.replace(
            inputs, positions=order.at(inputs.positions), queries=order.ask(ranks, query_spans)
        )
        output = self.model(target_params(params), asked, cache)
        law = settings.warp.log_probs(output.logits, rows.history.at(ranks))
        noise = settings.warp.token_noise(rng, ranks, law.shape[-1])
        chunk = settings.warp.draw(law, noise)
        at_token = lambda x: jnp.take_along_axis(x, chunk[..., None], axis=-1)[..., 0]
        log_probs = at_token(law)
        raw_log_probs = at_token(output.logits) - jax.nn.logsumexp(output.logits, axis=-1)

        room = cache.capacity - cache.length - self.width
        rows, count = rows.advance(
            settings, chunk, jnp.full_like(last, self.width), jnp.isfinite(log_probs), room=room
        )
        index = jnp.broadcast_to(ahead, window.shape)
        key_spans = visibility.causal(inputs.positions).key_spans
        cache = cache.commit(output.entries, index, jnp.where(count > 0, unseen, 0), key_spans)
        ran = state.rows.running.astype(jnp.int32)
        info = Info.undrafted(
            tokens=chunk,
            start=rows.length - count,
            count=count,
            log_probs=log_probs,
            raw_log_probs=raw_log_probs,
            target_forwards=ran,
            target_rows=ran * self.model.scored_rows(self.width, self.width, order.size),
            status=rows.status,
            steps=jnp.broadcast_to(state.rows.rounds[:, None], chunk.shape),
            top=top_tokens(output.logits, rows.top_log_probs),
        )
        return ParallelState(rows, settings, cache), info


def parallel_sampling(model: Model, *, width: int = 4) -> ParallelSampling:
    """Draws W tokens a forward, each given the tokens before the step alone.

        x_{n+j} ~ p(x_{n+j} | x_{<n}),   j = 0, ..., W - 1

    Args:
      model: answers queries.
      width: W, at least 1; as many as there are gaps fills all of them in one forward.

    Raises:
      ValueError: if `width < 1`.

    Exactness: approximate(width); token-identical to sequential decoding at width 1. It is what ASSD's drafts are
    before they are verified, here for contrast.
    """
    if width < 1:
        raise ValueError(f"width must be at least 1, got {width}")
    return ParallelSampling(model, width)
