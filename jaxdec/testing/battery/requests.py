"""What the batteries ask of a decoder: models, prompts and settings, on causal prompts or in an order."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxdec
from jaxdec import decoding, generation
from jaxdec.decoding import Decoder
from jaxdec.model import Model, Order
from jaxdec.testing import oracles

Factory = Callable[[Model, Model], Decoder]

VOCAB = 7
PROMPTS = np.array([[1, 2, 3, 4, 1, 2], [5, 6, 5, 6, 0, 0], [0, 0, 0, 0, 0, 0], [3, 3, 3, 0, 0, 0]])
LENGTHS = np.array([6, 4, 1, 3])
BUDGET = np.array([32, 12, 25, 30])  # one bucket, so that few programs are compiled

KNOBS: dict[str, dict[str, Any]] = {
    "greedy": dict(temperature=0.0),
    "sampled": dict(temperature=0.8),
    "each row its own": dict(temperature=[0.0, 0.5, 1.0, 1.7], top_p=[1.0, 0.8, 0.6, 0.95]),
    "filters": dict(temperature=0.5, top_k=5, top_p=0.8, min_p=0.02, epsilon=0.01),
    "penalties": dict(
        temperature=0.9, repetition_penalty=1.3, presence_penalty=0.4, frequency_penalty=0.3
    ),
    "bias and bans": dict(logit_bias=np.linspace(-1, 1, VOCAB), banned=np.arange(VOCAB) == 2),
}
"""Settings that every decoder is run under."""


NEVER = VOCAB - 1

EVERYTHING: dict[str, Any] = dict(
    temperature=1.0,
    top_k=VOCAB,
    top_p=1.0,
    min_p=0.0,
    epsilon=0.0,
    repetition_penalty=1.0,
    presence_penalty=0.0,
    frequency_penalty=0.0,
    logit_bias=np.zeros(VOCAB),
    banned=np.arange(VOCAB) == NEVER,
    eos=[NEVER],
    stop=[[NEVER, NEVER], [NEVER, NEVER, NEVER]],
)
"""Settings of all kinds and stops, which change nothing but that one token never comes. Checks put theirs in place.

A setting that is left out makes another program, and compiling programs is what takes the time.
"""


def pair(seed: int = 0, weight: float = 0.35) -> tuple[Model, dict[str, jax.Array]]:
    """A hash oracle and parameters for it (`target`) and for one that resembles it (`draft`)."""
    model, target = oracles.hash_oracle(VOCAB, seed=seed, scale=1.5)
    _, other = oracles.hash_oracle(VOCAB, seed=seed + 1, scale=1.5)
    return model, {"target": target, "draft": oracles.blend(target, other, weight)}


@dataclasses.dataclass(frozen=True)
class Ordered:
    """A decoder that is tested on requests with an order of generation."""

    decoder: Decoder

    def __getattr__(self, name: str) -> Any:
        return getattr(self.decoder, name)


def ordered(make: Factory) -> Factory:
    """The same factory, tested on random visible sets and random fixed orders instead of causal prompts."""
    return lambda target, draft: Ordered(make(target, draft))  # type: ignore[return-value]


def plain_decoder(model: Model, like: Decoder) -> Decoder:
    """Plain decoding, on requests of the same kind."""
    plain = jaxdec.autoregressive(model)
    return Ordered(plain) if isinstance(like, Ordered) else plain  # type: ignore[return-value]


def places_of(row: int, size: int, visible: int) -> np.ndarray:
    """The position of each rank of a row: a random visible set in ascending order, the rest in random order."""
    places = np.random.default_rng((row, size)).permutation(size)
    return np.concatenate([np.sort(places[:visible]), places[visible:]])


def order_of(lengths: Any, budget: Any, rows: Any = None) -> Order:
    """Random orders; a row of the batch has its own, told by its number."""
    lengths = np.asarray(lengths)
    sizes = lengths + np.broadcast_to(budget, lengths.shape)
    places = np.zeros((len(lengths), sizes.max()), np.int32)
    for i, size in enumerate(sizes):
        row = i if rows is None else rows[i]
        places[i, :size] = places_of(row, size, lengths[i])
    whole = lambda x: jnp.asarray(x, jnp.int32)
    return Order(whole(places), whole(lengths), whole(sizes))


def with_order(decoder: Decoder, options: dict[str, Any], rows: Any = None) -> dict[str, Any]:
    """The options of a request, with an order where the decoder is tested on one."""
    if not isinstance(decoder, Ordered) and not isinstance(
        getattr(decoder, "decoder", None), Ordered
    ):
        return options
    lengths = options.get("lengths")
    if lengths is None:
        lengths = np.full(len(options["prompt"]), np.shape(options["prompt"])[1])
    return {**options, "order": order_of(lengths, options["max_new_tokens"], rows)}


def generate(decoder: Decoder, params: Any, rows: Any = None, **options: Any) -> generation.Result:
    """`generation.generate` on the prompts of the battery, or what is given instead."""
    given = dict(
        prompt=PROMPTS, lengths=LENGTHS, max_new_tokens=BUDGET, rng=jax.random.key(7), eos=()
    )
    return generation.generate(decoder, params, **with_order(decoder, {**given, **options}, rows))


def prepare(decoder: Decoder, params: Any, **options: Any) -> decoding.Request:
    """`generation.prepare`, with an order where the decoder is tested on one."""
    return generation.prepare(decoder, params, **with_order(decoder, options))


def texts(result: generation.Result) -> list[list[int]]:
    """The tokens of each row."""
    tokens, lengths = np.asarray(result.tokens), np.asarray(result.lengths)
    return [row[:length].tolist() for row, length in zip(tokens, lengths, strict=True)]


def assert_same(first: generation.Result, second: generation.Result, what: str) -> None:
    """Asserts equal tokens, statuses and log-probabilities."""
    assert texts(first) == texts(second), f"{what}: other tokens"
    assert first.status == second.status, f"{what}: {first.status} and {second.status}"
    for name in ("log_probs", "raw_log_probs"):
        for row, length in enumerate(np.asarray(first.lengths)):
            one, two = (np.asarray(getattr(r, name))[row, :length] for r in (first, second))
            np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5, err_msg=f"{what}: {name}")
