"""What forwards and proposals of drafts cost: measured in compiled loops, or taken from a plan.

Legend: B rows, T tokens of each that a forward scores.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.decoding import Request, init
from jaxdec.measuring.timing import Method, interleave
from jaxdec.model import Inputs, Model, Params
from jaxdec.sampling import Purpose, key_at, row_keys
from jaxdec.speculative import Context, Drafter, Speculative


@dataclasses.dataclass(frozen=True)
class ForwardCosts:
    """Seconds of a forward by the tokens of a row that it scores, for one batch and one context.

    Attributes:
      seconds: by T, ascending.
    """

    seconds: Mapping[int, float]

    def __post_init__(self):
        if not self.seconds:
            raise ValueError("costs must name the seconds of at least one number of tokens")
        for tokens, seconds in self.seconds.items():
            if not (tokens >= 1 and 0 < seconds < float("inf")):
                raise ValueError(
                    f"costs must be positive seconds of 1 token or more, got {tokens}: {seconds}"
                )
        object.__setattr__(self, "seconds", dict(sorted(self.seconds.items())))

    @classmethod
    def of_plan(cls, plan: Mapping[str, Any]) -> "ForwardCosts":
        """Those of a plan (`jaxdec plan`, `jaxdec.planning.plan`).

        Raises:
          ValueError: if the plan says nothing of verification.
        """
        if not plan.get("verification"):
            raise ValueError("the plan holds no costs of verification: no chip holds its programs")
        return cls({row["tokens"]: row["seconds"] for row in plan["verification"]})

    def at(self, tokens: int) -> float:
        """Seconds: linear between what is known, beyond it as between the last two, below it what the least costs."""
        known, cost = list(self.seconds), list(self.seconds.values())
        if len(known) > 1 and tokens > known[-1]:
            slope = (cost[-1] - cost[-2]) / (known[-1] - known[-2])
            return cost[-1] + max(slope, 0.0) * (tokens - known[-1])
        return float(np.interp(tokens, known, cost))


@functools.partial(jax.jit, static_argnums=0)
def forwards(model: Model, params: Params, cache: Any, tokens: jax.Array, steps: Any) -> jax.Array:
    """Runs `steps` forwards, one after the other, with a cache that is only read.

    A forward that is called from Python, its parameters arguments, can cost several times what it costs in a loop,
    which changes the layout of weights once. Each reads what the last one predicted, at another position: nothing can
    leave the loop.

    Args:
      model: any.
      params: its own.
      cache: of B rows, with room for T + 4 tokens after its length.
      tokens: int32 `[B, T]`.
      steps: an integer, traced.
    """

    def body(step, tokens):
        inputs = Inputs.causal(tokens, cache.length + step % 4)
        return jnp.argmax(model(params, inputs, cache).logits, -1).astype(jnp.int32)

    return jax.lax.fori_loop(0, steps, body, tokens)


@functools.partial(jax.jit, static_argnums=0)
def proposals(drafter: Drafter, params: Params, state: Any, context: Context, steps: Any) -> Any:
    """Runs `steps` proposals, one after the other, with a state that is only read.

    Args:
      drafter: any.
      params: by part name.
      state: the drafter's own.
      context: of a step of B rows; the last drafted token takes the place of the row's last before the next proposal.
      steps: an integer, traced.

    Returns:
      The rows after the last.
    """

    def body(_, rows):
        now = dataclasses.replace(context, rows=rows)
        tree, _ = drafter.propose(drafter.own(params), state, now)
        every = jnp.arange(rows.length.shape[0])
        tokens = rows.tokens.at[every, rows.length - 1].set(tree.tokens[:, -1])
        return dataclasses.replace(rows, tokens=tokens)

    return jax.lax.fori_loop(0, steps, body, context.rows)


def forward_method(
    name: str, model: Model, params: Params, cache: Any, tokens: int, steps: int
) -> Method:
    """`steps` bare forwards of some tokens a row, with a cache that is only read."""
    fed = jnp.zeros((cache.length.shape[0], tokens), jnp.int32)
    count = jnp.int32(steps)
    return Method(name, lambda _: forwards(model, params, cache, fed, count))


def proposal_method(
    name: str,
    decoder: Speculative,
    params: Mapping[str, Params],
    state: Any,
    keys: jax.Array,
    steps: int,
) -> Method:
    """`steps` proposals of a decoder's drafter after the rows of a state, which is only read.

    Args:
      name: of the method.
      decoder: is speculative.
      params: by part name.
      state: of the decoder, of B rows.
      keys: row keys `[B]`.
      steps: proposals.
    """
    rows, settings = state.rows, state.settings
    places = rows.length[:, None] + jnp.arange(decoder.width)
    noise = settings.warp.noise(
        lambda: key_at(keys, Purpose.TOKEN, places), (*places.shape, decoder.model.vocab_size)
    )
    context, count = Context(rows, settings, keys, noise), jnp.int32(steps)
    return Method(name, lambda _: proposals(decoder.drafter, params, state.draft, context, count))


def forward_costs(
    model: Model,
    params: Params,
    *,
    batch: int,
    context: int,
    tokens: Sequence[int] = (1, 2, 4, 8, 16, 32, 64),
    steps: int = 8,
    repeats: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> ForwardCosts:
    """Measures what forwards cost on this device; numbers of tokens take turns, each is the median of its repeats.

    Args:
      model: any.
      params: its own.
      batch: B.
      context: tokens that a row's cache has room for.
      tokens: numbers of tokens of a row that a forward scores.
      steps: forwards of a loop.
      repeats: loops of each, after one that compiles.
      clock: returns seconds; read just before and just after each loop.

    Raises:
      ValueError: for sizes below 1, or more tokens than the context.
    """
    for name, value in (("batch", batch), ("steps", steps), ("repeats", repeats)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not tokens or min(tokens) < 1 or max(tokens) + 4 > context:
        raise ValueError(
            f"tokens must lie in [1, {context - 4}] for a context of {context}, got {list(tokens)}"
        )
    cache = model.init_cache(batch, context)
    methods = {
        count: forward_method(f"{count} tokens", model, params, cache, count, steps)
        for count in sorted(set(tokens))
    }
    timings = interleave([*methods.values()], repeats=repeats, clock=clock)
    return ForwardCosts(
        {count: timings[method.name].median / steps for count, method in methods.items()}
    )


def proposal_costs(
    decoders: Mapping[str, Speculative],
    params: Mapping[str, Params],
    request: Callable[[Speculative], Request],
    *,
    steps: int = 8,
    repeats: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Seconds of one proposal of each decoder's drafter on this device, by name; they take turns.

    Args:
      decoders: by name.
      params: by part name.
      request: prompts that a decoder drafts after (`prepare`).
      steps: proposals of a loop.
      repeats: loops of each, after one that compiles.
      clock: returns seconds.
    """
    methods = []
    for name, decoder in decoders.items():
        asked = request(decoder)
        keys = row_keys(jax.random.key(0), len(asked.lengths))
        state = init(decoder, params, asked)
        methods.append(proposal_method(name, decoder, params, state, keys, steps))
    timings = interleave(methods, repeats=repeats, clock=clock)
    return {name: timing.median / steps for name, timing in timings.items()}
