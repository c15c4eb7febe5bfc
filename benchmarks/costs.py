"""What forwards and drafts cost, measured inside compiled loops, and how fast the machine copies.

A forward that is called from Python with its parameters as arguments can cost several times what it costs in a decoding
loop, which hoists layout changes of the weights. So each cost is the time of a loop, over its trip count.
"""

import dataclasses
import functools
import statistics
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.workload import Variant, Workload
from jaxdec.decoding import init, target_params
from jaxdec.measuring.timing import Method, Timing, interleave, ratios
from jaxdec.model import Inputs, Model
from jaxdec.sampling import Purpose, key_at
from jaxdec.speculative import Context, Drafter


@functools.partial(jax.jit, static_argnums=0)
def _forwards(model: Model, params: Any, cache: Any, tokens: jax.Array, steps: jax.Array):
    def body(step, tokens):
        # Each forward reads what the last one predicted, at another position: nothing can leave the loop.
        inputs = Inputs.causal(tokens, cache.length + step % 4)
        return jnp.argmax(model(params, inputs, cache).logits, -1).astype(jnp.int32)

    return jax.lax.fori_loop(0, steps, body, tokens)


@functools.partial(jax.jit, static_argnums=0)
def _proposals(drafter: Drafter, params: Any, state: Any, context: Context, steps: jax.Array):
    def body(_, rows):
        now = dataclasses.replace(context, rows=rows)
        tree, _ = drafter.propose(drafter.own(params), state, now)
        every = jnp.arange(rows.length.shape[0])
        tokens = rows.tokens.at[every, rows.length - 1].set(tree.tokens[:, -1])
        return dataclasses.replace(rows, tokens=tokens)

    return jax.lax.fori_loop(0, steps, body, context.rows)


def forward_method(name: str, model: Model, params: Any, cache: Any, width: int, steps: int):
    """`steps` bare forwards of `width` tokens a row, with a cache that is only read."""
    tokens = jnp.zeros((cache.length.shape[0], width), jnp.int32)
    count = jnp.int32(steps)
    return Method(name, lambda _: _forwards(model, params, cache, tokens, count))


def proposal_method(name: str, variant: Variant, state: Any, keys: jax.Array, steps: int) -> Method:
    """`steps` proposals of a variant's drafter."""
    decoder = variant.decoder
    depths = jnp.arange(decoder.width)
    rows, settings = state.rows, state.settings
    places = rows.length[:, None] + depths
    noise = settings.warp.noise(
        lambda: key_at(keys, Purpose.TOKEN, places), (*places.shape, decoder.model.vocab_size)
    )
    context = Context(rows, settings, keys, noise)
    count = jnp.int32(steps)
    return Method(
        name, lambda _: _proposals(decoder.drafter, variant.params, state.draft, context, count)
    )


@dataclasses.dataclass(frozen=True)
class Costs:
    """What the steps of a variant cost.

    Attributes:
      forward_seconds: one bare forward of one token a row.
      verify_ratio: R, a forward of as many tokens as a step scores, over one of one token.
      draft_ratio: c, a proposal over its length, over a forward of one token.
    """

    forward_seconds: float
    verify_ratio: float
    draft_ratio: float

    def speedup(self, tau: float, length: int) -> float:
        """The predicted ratio to plain decoding, `S = tau / (R + g c)`."""
        return tau / (self.verify_ratio + length * self.draft_ratio)


def measure(
    variants: list[Variant], workload: Workload, *, steps: int, repeats: int
) -> dict[str, Costs]:
    """The costs of speculative variants of one target, by name, in one interleaved run."""
    methods: dict[str, Method] = {}
    for variant in variants:
        state = init(variant.decoder, variant.params, workload.requests(variant)[0])
        model, target = variant.decoder.model, target_params(variant.params)
        for width in (1, variant.decoder.width):
            name = f"forward {width}"
            if name not in methods:
                methods[name] = forward_method(name, model, target, state.cache, width, steps)
        name = f"draft {variant.name}"
        methods[name] = proposal_method(name, variant, state, workload.keys()[0], steps)
    timings = interleave(list(methods.values()), repeats=repeats)
    one = timings["forward 1"]

    def over_one(timing: Timing) -> float:
        return statistics.median(ratios(timing, one))

    return {
        variant.name: Costs(
            forward_seconds=one.median / steps,
            verify_ratio=over_one(timings[f"forward {variant.decoder.width}"]),
            draft_ratio=over_one(timings[f"draft {variant.name}"]) / variant.length,
        )
        for variant in variants
    }


@jax.jit
def _copies(x: jax.Array, steps: jax.Array) -> jax.Array:
    return jax.lax.fori_loop(0, steps, lambda _, x: x + 1, x)


def copy_bandwidth(megabytes: int = 256, steps: int = 8, repeats: int = 5) -> float:
    """Bytes read and written a second by a loop over an array that no cache holds."""
    x = jnp.zeros((megabytes * 2**18,), jnp.float32)
    method = Method("copy", lambda _: _copies(x, jnp.int32(steps)))
    return 2 * x.nbytes * steps / interleave([method], repeats=repeats)["copy"].median
