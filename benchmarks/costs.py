"""What forwards and drafts cost, measured inside compiled loops, and how fast the machine copies.

Each cost is the time of a loop (`jaxdec.measuring.forwards`), over its trip count.
"""

import dataclasses
import statistics

import jax
import jax.numpy as jnp

from benchmarks.workload import Variant, Workload
from jaxdec.decoding import init, target_params
from jaxdec.measuring.forwards import forward_method, proposal_method
from jaxdec.measuring.timing import Method, Timing, interleave, ratios


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
        methods[name] = proposal_method(
            name, variant.decoder, variant.params, state, workload.keys()[0], steps
        )
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
