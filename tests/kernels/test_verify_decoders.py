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
DECODERS = {
    "chain, walk": lambda target: jaxdec.speculative(
        target, drafter=jaxdec.drafters.prompt_lookup(length=3, max_ngram=2)
    ),
    "tree, walk": lambda target: jaxdec.speculative(
        target, drafter=jaxdec.drafters.model(target, growth=growths.fixed(TREE))
    ),
    "tree, recursive rejection": lambda target: jaxdec.speculative(
        target,
        drafter=jaxdec.drafters.model(target, growth=growths.fixed(TREE)),
        verifier=jaxdec.verifiers.RecursiveRejection(),
    ),
}


def decode(name, implementation, **settings):
    target, params = battery.pair()
    decoder = DECODERS[name](target)
    with pallas_kernels.use(implementation), pltpu.force_tpu_interpret_mode():
        return jaxdec.generate(
            decoder,
            params,
            np.array([[1, 2, 1, 2, 1], [0, 3, 2, 0, 3]]),
            rng=jax.random.key(5),
            max_new_tokens=12,
            **settings,
        )


@pytest.mark.parametrize("name", DECODERS)
def test_tokens_are_those_of_the_reference(name):
    settings = {"temperature": np.array([0.0, 0.9]), "banned": np.arange(7) == 4}
    wanted = decode(name, "reference", **settings)
    found = decode(name, "tpu", **settings)
    assert int(wanted.stats.accepted.sum()) > 0
    np.testing.assert_array_equal(found.lengths, wanted.lengths)
    np.testing.assert_array_equal(found.tokens, wanted.tokens)
    np.testing.assert_array_equal(found.stats.accepted, wanted.stats.accepted)
    for field in ("log_probs", "raw_log_probs"):
        values = np.asarray(getattr(found, field)), np.asarray(getattr(wanted, field))
        np.testing.assert_allclose(*values, rtol=1e-5, atol=1e-5, err_msg=field)
