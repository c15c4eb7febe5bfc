"""The law of what a decoder draws, against a joint law that is known."""

import jax.numpy as jnp
import numpy as np

from jaxdec.model import Order
from jaxdec.testing import oracles
from jaxdec.testing.battery.cases import Kind
from jaxdec.testing.battery.report import Difference
from jaxdec.testing.battery.subject import Subject, built
from jaxdec.testing.draws import count_draws
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
    batch = 20_000
    rows = jnp.ones(batch, jnp.int32)
    order = Order(jnp.tile(jnp.asarray(places, jnp.int32), (batch, 1)), rows, POSITIONS * rows)
    counts = count_draws(
        decoder,
        params,
        (LETTERS,) * 3,
        draws=draws,
        batch=batch,
        order=order if ordered else None,
    )
    p = g_test(counts.reshape(-1), joint.reshape(-1) / joint.sum())
    if not p > FALSE_POSITIVE_RATE:
        raise Difference(f"the law of {draws} draws is not the target's: p = {p:.2e}")
