"""Which experts tokens went to: what the mixtures of a forward say of themselves to whoever asks.

    with recorded() as found:
        output = model(params, inputs, None)
    experts = jnp.stack([layer.experts for layer in found])

Nobody who does not ask pays for it. Layers in the form `"speculative"` say nothing: they choose under a map of their
own. The arrays belong to the trace that the forward is part of: use them, or return them, within the same function that
is given to `jax.jit`, `jax.grad` or `shard_map`.

Legend: B rows, T new tokens, N = B T, D width, E experts, K experts a token.
"""

import contextlib
import contextvars
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxdec.models.layers.mixture import Experts


class Routed(NamedTuple):
    """What one mixture did with the tokens of a forward.

    Attributes:
      layer: the mixture; `layer.gate` is what its tokens are routed by.
      inputs: `[B, T, D]`, what it was given.
      logits: `[N, E]`, those of its gate.
      experts: int32 `[N, K]`.
    """

    layer: "Experts"
    inputs: jax.Array
    logits: jax.Array
    experts: jax.Array


_found: contextvars.ContextVar[list[Routed] | None] = contextvars.ContextVar("found", default=None)


@contextlib.contextmanager
def recorded() -> Iterator[list[Routed]]:
    """Collects the `Routed` of every mixture that is called or traced inside, in the order of the layers."""
    found: list[Routed] = []
    token = _found.set(found)
    try:
        yield found
    finally:
        _found.reset(token)


def guess_next(found: list[Routed]) -> jax.Array:
    """The experts of each layer but the first, guessed from the layer before: its input through the next one's gate.

    Args:
      found: mixtures of one E, L of them.

    Returns:
      int32 `[L - 1, N, K]`.

    Source: the pre-gating of mixtures whose experts are fetched ahead.
    """
    pairs = itertools.pairwise(found)
    flat = lambda x: x.reshape(-1, x.shape[-1])
    return jnp.stack(
        [after.layer.chosen(after.layer.gate(flat(r.inputs)))[0] for r, after in pairs]
    )


def note(routed: Routed) -> None:
    """Tells the enclosing `recorded`, if there is one."""
    found = _found.get()
    if found is not None:
        found.append(routed)


def balance_loss(found: list[Routed]) -> jax.Array:
    """How unevenly tokens are spread over experts: 1 where they are spread evenly, E / K where K experts get all.

        mean over layers of  E sum_e f_e P_e,   f_e = share of the choices, P_e = mean probability of the gate

    Args:
      found: at least one mixture.

    Returns:
      A float32 scalar; only the probabilities carry gradients.

    Source: the load-balancing loss of Switch Transformers (2101.03961), for K choices.
    """
    losses = []
    for routed in found:
        logits = routed.logits.astype(jnp.float32)
        experts = logits.shape[-1]
        counts = jnp.bincount(routed.experts.reshape(-1), length=experts)
        share = counts.astype(jnp.float32) / routed.experts.size
        losses.append(experts * (share * jax.nn.softmax(logits).mean(0)).sum())
    return jnp.stack(losses).mean()
