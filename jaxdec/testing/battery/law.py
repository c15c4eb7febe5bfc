"""The law of what a decoder draws."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import decoding
from jaxdec.decoding import Status
from jaxdec.testing import oracles
from jaxdec.testing.battery.requests import Factory, Ordered, places_of, prepare
from jaxdec.testing.statistics import g_test

FALSE_POSITIVE_RATE = 1e-6
"""Of the statistical check, for a decoder that is exact; seeds are fixed, so that it passes or fails for good."""


def check_law(make: Factory, draws: int = 100_000) -> None:
    """The law of three tokens equals that of a known joint table (G-test of `draws` rows)."""
    model, target = oracles.joint_oracle(3, 4, seed=3)
    _, draft = oracles.joint_oracle(3, 4, seed=4)
    # The table of another law, with enough of the target in it that every number of drafts is accepted at times.
    params = {"target": target, "draft": 0.5 * target + 0.5 * draft}
    decoder = make(model, model)
    joint = np.asarray(target, np.float64)
    places = np.arange(4)
    if isinstance(decoder, Ordered):
        places = places_of(0, 4, 1)
        assert not np.array_equal(places, np.arange(4))
    joint = joint.transpose(places)[1]  # by rank, given the token of rank 0
    counts = np.zeros((3, 3, 3))
    batch = 20_000
    for chunk in range(draws // batch):
        request = prepare(
            decoder,
            params,
            prompt=np.full((batch, 1), 1),
            lengths=np.ones(batch, int),
            max_new_tokens=3,
            eos=(),
            temperature=1.0,
        )
        if request.order is not None:
            same = jnp.broadcast_to(jnp.asarray(places, jnp.int32), (batch, 4))
            request = dataclasses.replace(
                request, order=dataclasses.replace(request.order, places=same)
            )
        # A hundred thousand rows of four tokens: cut the buckets to the bone.
        request = dataclasses.replace(
            request, prompt=request.prompt[:, :1], capacity=4 + decoder.width
        )
        state = decoding.init(decoder, params, request)
        state, _ = decoding.run(decoder, params, state, jax.random.key(chunk))
        tokens = np.asarray(state.rows.tokens)[:, 1:4]
        assert (np.asarray(state.rows.status) == Status.LENGTH).all()
        np.add.at(counts, tuple(tokens.T), 1)
    p = g_test(counts.reshape(-1), joint.reshape(-1) / joint.sum())
    assert p > FALSE_POSITIVE_RATE, (
        f"the law of {draws} draws differs from the target's: p = {p:.2e}"
    )
