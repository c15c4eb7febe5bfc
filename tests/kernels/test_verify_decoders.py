"""Decoders draw the same tokens whether kernels verify their drafts or not."""

import jax
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

import jaxdec
import pallas_kernels
from jaxdec import growths
from jaxdec.speculative import RankTree
from jaxdec.testing import battery

TREE = RankTree.of((-1, -1, 0, 0, 1, 2))
DRAFTERS = {
    "chain": lambda draft: jaxdec.drafters.prompt_lookup(length=3, max_ngram=2),
    "tree": lambda draft: jaxdec.drafters.model(draft, growth=growths.fixed(TREE)),
}


def decode(drafter, implementation, **settings):
    target, params = battery.pair()
    decoder = jaxdec.speculative(target, drafter=DRAFTERS[drafter](target))
    with pallas_kernels.use(implementation), pltpu.force_tpu_interpret_mode():
        return jaxdec.generate(
            decoder,
            params,
            np.array([[1, 2, 1, 2, 1], [0, 3, 2, 0, 3]]),
            rng=jax.random.key(5),
            max_new_tokens=12,
            **settings,
        )


@pytest.mark.parametrize("drafter", DRAFTERS)
def test_tokens_are_those_of_the_reference(drafter):
    settings = {"temperature": np.array([0.0, 0.9]), "banned": np.arange(7) == 4}
    wanted = decode(drafter, "reference", **settings)
    found = decode(drafter, "tpu", **settings)
    assert int(wanted.stats.accepted.sum()) > 0
    np.testing.assert_array_equal(found.lengths, wanted.lengths)
    np.testing.assert_array_equal(found.tokens, wanted.tokens)
    np.testing.assert_array_equal(found.stats.accepted, wanted.stats.accepted)
    for name in ("log_probs", "raw_log_probs"):
        values = np.asarray(getattr(found, name)), np.asarray(getattr(wanted, name))
        np.testing.assert_allclose(*values, rtol=1e-5, atol=1e-5, err_msg=name)
