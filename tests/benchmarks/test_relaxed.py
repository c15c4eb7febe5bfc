"""The case of relaxed rules: which are in it, and what it says of the text that was written."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from benchmarks.cases import relaxed
from benchmarks.setting import QUICK, Setting
from jaxdec.catalogue.speculation import RULES
from jaxdec.decoding import Exactness
from jaxdec.testing.oracles import hash_oracle

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_every_relaxed_rule_is_in_it():
    loose = (Exactness.APPROXIMATE, Exactness.HEURISTIC)
    assert set(relaxed.POINTS) == {n for n, rule in RULES.items() if rule.make().exactness in loose}
    for name, settings in relaxed.POINTS.items():
        knobs = relaxed.rule(name).knobs
        assert settings and all(set(one) <= set(knobs) for one in settings)
    few = Setting(SimpleNamespace(name="other"), None, None, QUICK, None)
    assert len(relaxed.points(few)) == QUICK.speculations
    assert "judge" not in dict(relaxed.points(few))


def test_bits_are_those_of_the_new_tokens():
    model, params = hash_oracle(4, seed=1)
    tokens = jnp.asarray([[1, 2, 3, 0, 1, 0], [3, 3, 0, 2, 2, 1]])
    result = SimpleNamespace(
        tokens=tokens, prompt_lengths=jnp.asarray([3, 2]), lengths=jnp.asarray([5, 6])
    )
    inputs = jaxdec.Inputs.causal(tokens)
    logits = np.asarray(model(params, inputs, None).logits, float)
    laws = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    places = [(0, 3), (0, 4), (1, 2), (1, 3), (1, 4), (1, 5)]
    nats = [-laws[row, place - 1, int(tokens[row, place])] for row, place in places]
    assert relaxed.bits(model, params, result) == pytest.approx(np.mean(nats) / np.log(2), rel=1e-5)
