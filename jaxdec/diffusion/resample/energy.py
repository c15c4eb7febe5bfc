"""Energy resampling with a causal model as the energy: EDLM.

Legend: B rows, L positions of the canvas, K proposals, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Knob, Request, check_length, check_serves
from jaxdec.diffusion.contract import Knobs, knob_default
from jaxdec.diffusion.resample.contract import Proposals, Resample
from jaxdec.model import Inputs, Model, Params


@dataclasses.dataclass(frozen=True)
class Energy(Resample):
    """See `energy`."""

    model: Model
    number: int
    temperature: float = knob_default()
    latest: float = knob_default()
    earliest: float = knob_default()
    name: str = "energy"

    @property
    def least_vocabulary(self) -> int:  # type: ignore[override]
        """The model's."""
        return self.model.vocab_size

    @property
    def knobs(self) -> dict[str, Knob]:
        """`energy_temperature`; `energy_from` and `energy_to`, shares of the canvas that are masked."""
        return {
            "energy_temperature": Knob(self.temperature, 1e-6),
            "energy_from": Knob(self.latest, 0, 1),
            "energy_to": Knob(self.earliest, 0, 1),
        }

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for a request with an order or too long for the model, or missing parameters."""
        super().check(request, params)
        if request.order is not None:
            raise ValueError(
                "a causal energy reads text from left to right, and the request has an order"
            )
        check_serves("energy", self.model, self.own(params))
        check_length("energy", self.model, request)

    def due(self, masked: jax.Array, knobs: Knobs) -> jax.Array:
        """Within the window of time."""
        return (masked <= knobs["energy_from"]) & (masked >= knobs["energy_to"])

    def pick(self, params: Params, proposals: Proposals, due: jax.Array, knobs: Knobs) -> jax.Array:
        """By self-normalised importance weights."""

        def weighed() -> jax.Array:
            weight = self.log_weights(params, proposals) / knobs["energy_temperature"][:, None]
            return jnp.argmax(weight + proposals.noise, axis=1).astype(jnp.int32)

        nothing = lambda: jnp.zeros(due.shape, jnp.int32)
        return jax.lax.cond(due.any(), weighed, nothing)

    def log_weights(self, params: Params, proposals: Proposals) -> jax.Array:
        """`log p(x) - log q(x)` of each proposal, float32 `[B, K]`, up to what all of a row have in common."""
        places = jnp.arange(proposals.known.shape[1])
        # The causal law says nothing of what stands behind a position that is not known.
        read = jnp.cumsum(~proposals.known, axis=1) == 0
        counted = read & (places >= jnp.maximum(proposals.begin, 1)[:, None])

        def one(given: tuple[jax.Array, jax.Array]) -> jax.Array:
            tokens, log_probs = given
            logits = self.model(params, Inputs.causal(tokens, valid=read), None).logits
            law = jax.nn.log_softmax(logits.astype(jnp.float32))[:, :-1]
            found = jnp.take_along_axis(law, tokens[:, 1:, None], axis=-1)[..., 0]
            found = jnp.pad(found, ((0, 0), (1, 0)))
            return jnp.where(counted, found - log_probs, 0).sum(1)

        weights = jax.lax.map(one, (proposals.tokens, proposals.log_probs)).T
        # A proposal that the model rules out is never taken where another is not.
        return jnp.where(jnp.isnan(weights), -jnp.inf, weights)


@typed
def energy(
    model: Model,
    *,
    proposals: int = 2,
    temperature: float = 1.0,
    start: float = 1.0,
    stop: float = 0.0,
    name: str = "energy",
) -> Energy:
    """Draws several fills of the group, and takes one by a causal model's word on the whole text: EDLM.

        x^1 .. x^K ~ prod_i q_i;   w_k ~ [ p(x^k) / q(x^k) ]^(1/T);   take x^k with probability w_k / sum w

    and the policy commits tokens of it. q is what tokens are drawn from, each position apart from all others; p the
    law of the whole text, known positions behind the masked ones included, up to the first that is not known.

    Args:
      model: causal, of the canvas model's vocabulary (the mask may be missing).
      proposals: K.
      temperature: T (knob `energy_temperature`).
      start: the first step that resamples: from this share of masked positions down (knob `energy_from`).
      stop: down to this one (knob `energy_to`).
      name: of its parameters in the `params` of `generate`.

    Raises:
      ValueError: for fewer proposals than one, a temperature of 0 or less, a window of time outside of [0, 1] or one
        that ends before it starts, or a model that is not causal.

    A step costs K forwards of the causal model over the canvas, counted as those of a draft model, without a cache.

    Exactness: heuristic. A step draws from `p(. | known)` as K grows, for T = 1; for few proposals it is biased towards
    q. One proposal changes nothing but the noise.

    Source: EDLM 2410.21357, its causal energy. The released weights have the other sign and take known positions out of
    p; the energy that is trained by contrast, and its network, are missing.
    """
    if not model.causal:
        raise ValueError(f"the energy is that of a causal model; this model {model.purpose}")
    if proposals < 1:
        raise ValueError(f"resampling needs at least 1 proposal, got {proposals}")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature must be above 0, got {temperature}")
    if not 0 <= stop <= start <= 1:
        raise ValueError(
            f"the window of time must lie in [0, 1] and start above its end, got {start} to {stop}"
        )
    return Energy(model, proposals, temperature, start, stop, name)
