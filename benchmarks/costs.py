"""What forwards and drafts cost, measured inside compiled loops, and how fast the machine copies.

Each cost is the time of a loop (`jaxdec.generation.costs`), over its trip count.
"""

import dataclasses
import statistics
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.workload import Variant, Workload
from jaxdec.decoding import init, target_params
from jaxdec.generation.costs import forwards, proposal, proposals
from jaxdec.measuring.timing import Method, Timing, interleave, ratios
from jaxdec.model import Model


def forward_method(name: str, model: Model, params: Any, cache: Any, width: int, steps: int):
    """`steps` bare forwards of `width` tokens a row, with a cache that is only read."""
    tokens = jnp.zeros((cache.length.shape[0], width), jnp.int32)
    count = jnp.int32(steps)
    return Method(name, lambda _: forwards(model, params, cache, tokens, count))


def proposal_method(name: str, variant: Variant, state: Any, keys: jax.Array, steps: int) -> Method:
    """`steps` proposals of a variant's drafter."""
    drafter, held, context = proposal(variant.decoder, state, keys)
    count = jnp.int32(steps)
    return Method(name, lambda _: proposals(drafter, variant.params, held, context, count))


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
