"""The law of what a decoder draws, against a joint law that is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import decoding, generation
from jaxdec.decoding import Status
from jaxdec.model import Order
from jaxdec.testing import oracles
from jaxdec.testing.battery.cases import Kind
from jaxdec.testing.battery.report import Difference
from jaxdec.testing.battery.subject import Subject, built
from jaxdec.testing.statistics import g_test

FALSE_POSITIVE_RATE = 1e-6
"""For a decoder that is exact; seeds are fixed, so that it passes or fails for good."""

POSITIONS, LETTERS = 4, 3
IN_ORDER = np.array([2, 0, 3, 1])
"""The position of each rank, for decoders that fill gaps."""


def check_law(subject: Subject, draws: int = 100_000) -> None:
    """The law of three tokens is that of a known joint table (a G-test)."""
    model, target = oracles.joint_oracle(LETTERS, POSITIONS, seed=3)
    _, draft = oracles.joint_oracle(LETTERS, POSITIONS, seed=4)
    decoder, more = built(subject.make, model)
    # The table of another law, with enough of the target in it that every number of drafts is accepted at times.
    params = {"target": target, "draft": 0.5 * target + 0.5 * draft, **more}
    ordered = subject.kind is Kind.ORDERS
    places = IN_ORDER if ordered else np.arange(POSITIONS)
    joint = np.asarray(target, np.float64).transpose(places)[
        1
    ]  # by rank, given the token of rank 0
    counts = np.zeros((LETTERS,) * 3)
    batch = 20_000
    rows = jnp.ones(batch, jnp.int32)
    order = Order(jnp.tile(jnp.asarray(places, jnp.int32), (batch, 1)), rows, POSITIONS * rows)
    request = generation.prepare(
        decoder,
        params,
        np.ones((batch, 1), int),
        max_new_tokens=3,
        eos=(),
        temperature=1.0,
        order=order if ordered else None,
    )
    # A hundred thousand rows of four tokens: cut the buckets to the bone.
    capacity = POSITIONS + decoder.width
    request = dataclasses.replace(request, prompt=request.prompt[:, :1], capacity=capacity)
    if request.order is not None:
        cut = dataclasses.replace(request.order, places=request.order.places[:, :capacity])
        request = dataclasses.replace(request, order=cut)
    for chunk in range(draws // batch):
        state = decoding.init(decoder, params, request)
        state, _ = decoding.run(decoder, params, state, jax.random.key(chunk))
        if (np.asarray(state.rows.status) != Status.LENGTH).any():
            raise Difference("rows of three tokens end by their budget")
        np.add.at(counts, tuple(np.asarray(state.rows.tokens)[:, 1:4].T), 1)
    p = g_test(counts.reshape(-1), joint.reshape(-1) / joint.sum())
    if not p > FALSE_POSITIVE_RATE:
        raise Difference(f"the law of {draws} draws is not the target's: p = {p:.2e}")
