"""What a decoder states, and that its keys matter."""

import jax

from jaxdec.decoding import Exactness
from jaxdec.testing.battery.requests import Factory, generate, pair, texts


def check_declares_exactness(make: Factory) -> None:
    """The decoder states what it promises."""
    model, _ = pair()
    exactness = getattr(make(model, model), "exactness", None)
    assert isinstance(exactness, Exactness), "the decoder declares no exactness"


def check_different_keys(make: Factory) -> None:
    """Other keys give other samples; the same key the same."""
    model, params = pair()
    decoder = make(model, model)
    first, again, other = (
        texts(generate(decoder, params, rng=jax.random.key(seed), temperature=1.0))
        for seed in (1, 1, 2)
    )
    assert first == again, "one key gave two results"
    assert all(a != b for a, b in zip(first, other, strict=True)), "two keys gave one result"
