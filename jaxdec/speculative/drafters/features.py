"""What networks read of a target's hidden states that draft from them.

Legend: B rows, T scored tokens, W tokens of a path, D width.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp

from jaxdec.decoding import Request, by_prompt, check_length
from jaxdec.model import Model, Output, Params
from jaxdec.speculative.drafters.causal import CausalDrafter
from jaxdec.speculative.drafters.grown import Grown


class FeatureDrafter(Grown, CausalDrafter):
    """A drafter whose network, its `model`, reads features of the target's hidden states."""

    model: Model

    @property
    def vocab_size(self) -> int:
        """V, of the network."""
        return self.model.vocab_size

    @property
    def taps(self) -> tuple[int, ...]:
        """Of the network."""
        return self.model.taps

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for a request with an order or too long for the network, or missing parameters."""
        super().check(request, params)
        check_length("draft model", self.model, request)


@contextlib.contextmanager
def reads_states(output: Output) -> Iterator[None]:
    """Raises `ValueError` where a network does not fit the states: a product of matrices says nothing of widths."""
    try:
        yield
    except TypeError as error:
        raise ValueError(
            "the draft network does not read the target's hidden states, which have a width of "
            f"{output.hidden.shape[-1]}"
        ) from error


def features_of(model: Model, params: Params, output: Output, hypotheses: int = 1) -> jax.Array:
    """Features `[B / hypotheses, T, D]` after all tokens of each prompt; see `Model.features`.

    Raises:
      ValueError: while it is traced, if the network reads states of another width.
    """
    with reads_states(output):
        return model.features(params, _map(output, lambda states: by_prompt(states, hypotheses)))


def features_at(model: Model, params: Params, output: Output, path: jax.Array) -> jax.Array:
    """Features `[B, W, D]` after the scored tokens of `path [B, W]` alone."""
    take = lambda states: jnp.take_along_axis(states, path[..., None], axis=1)
    return model.features(params, _map(output, take))


def _map(output: Output, take: Callable[[jax.Array], jax.Array]) -> Output:
    """The output with other hidden states and states of layers."""
    layer_states = tuple(map(take, output.layer_states))
    return dataclasses.replace(output, hidden=take(output.hidden), layer_states=layer_states)
