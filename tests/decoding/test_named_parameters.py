"""Decoders take parameters by part name, never one model's alone."""

import jax
import numpy as np
import pytest

import jaxdec
from jaxdec import any_subset, decoding, diffusion, parallel
from jaxdec.speculative import explain
from jaxdec.testing import oracles

MODEL, TABLE = oracles.hash_oracle(6, seed=2)
PROMPT = np.array([[1, 2, 3], [4, 5, 0]])
VISIBLE = np.array([[True, False, False], [True, False, True]])
KEY = jax.random.key(0)
PLAIN, GAPS = jaxdec.autoregressive(MODEL), any_subset.assd(MODEL, width=2)
DRAFTED = jaxdec.speculative(MODEL, drafter=jaxdec.drafters.model(MODEL, length=2))
BOTH = {"target": TABLE, "draft": TABLE}


def request():
    return jaxdec.prepare(DRAFTED, BOTH, PROMPT, max_new_tokens=2)


def state():
    return decoding.init(DRAFTED, BOTH, request())


def mesh():
    return parallel.placement(devices=jax.devices()[:1])


CALLS = {
    "generate": lambda params: jaxdec.generate(DRAFTED, params, PROMPT, rng=KEY),
    "prepare": lambda params: jaxdec.prepare(DRAFTED, params, PROMPT),
    "adaptive": lambda params: jaxdec.prepare(
        jaxdec.adaptive(
            lambda k: jaxdec.speculative(MODEL, drafter=jaxdec.drafters.model(MODEL, length=k)),
            (1, 2),
        ),
        params,
        PROMPT,
    ),
    "init": lambda params: decoding.init(DRAFTED, params, request()),
    "run": lambda params: decoding.run(DRAFTED, params, state(), KEY),
    "stream": lambda params: next(decoding.stream(DRAFTED, params, state(), KEY)),
    "explain": lambda params: explain(DRAFTED, params, state(), KEY),
    "auto_draft_length": lambda params: jaxdec.auto_draft_length(
        MODEL,
        lambda k: jaxdec.drafters.model(MODEL, length=k),
        params,
        PROMPT,
        rng=KEY,
        lengths=(1,),
    ),
    "generate, placed": lambda params: jaxdec.generate(
        DRAFTED, params, PROMPT, placement=mesh(), rng=KEY
    ),
    "init, placed": lambda params: decoding.init(DRAFTED, params, request(), placement=mesh()),
    "run, placed": lambda params: decoding.run(DRAFTED, params, state(), KEY, placement=mesh()),
}


@pytest.mark.parametrize("call", CALLS)
def test_one_models_parameters_are_refused(call):
    with pytest.raises(ValueError) as error:
        CALLS[call](TABLE)
    said = "params must be a mapping by part name, with 'target', 'draft'; got ArrayImpl: pass "
    assert str(error.value) == said + "{'target': params, 'draft': ...}"


@pytest.mark.parametrize("call", CALLS)
def test_a_missing_part_is_named(call):
    with pytest.raises(ValueError, match=r"with 'target', 'draft'; got dict with 'target'$"):
        CALLS[call]({"target": TABLE})


@pytest.mark.parametrize(
    ("params", "got"),
    [
        (None, "NoneType"),
        ({}, "dict with nothing"),
        ({"a": 1, "b": 2, "c": 3, 4: 4}, "dict with 'a', 'b', 'c', 4"),
        (dict.fromkeys("abcde"), "dict with 'a', 'b', 'c', 'd', ..."),
        ([TABLE], "list"),
    ],
)
def test_what_was_given_is_said(params, got):
    with pytest.raises(ValueError) as error:
        jaxdec.prepare(PLAIN, params, PROMPT)
    assert str(error.value).endswith(f"with 'target'; got {got}: pass {{'target': params}}")


@pytest.mark.parametrize(
    "call",
    [
        lambda params: jaxdec.infill(GAPS, params, PROMPT, VISIBLE, rng=KEY),
        lambda params: jaxdec.auto_infill({"": GAPS}, params, PROMPT, VISIBLE, rng=KEY),
        lambda params: jaxdec.choose_length(GAPS, params, [1], [2], (1, 2), rng=KEY),
        lambda params: jaxdec.infill(GAPS, params, PROMPT, VISIBLE, placement=mesh(), rng=KEY),
    ],
    ids=["infill", "auto_infill", "choose_length", "infill, placed"],
)
def test_gaps_are_filled_by_named_parameters(call):
    with pytest.raises(ValueError, match="by part name, with 'target'; got ArrayImpl"):
        call(TABLE)


def test_all_parts_with_weights_are_named():
    class Weighted(diffusion.Unmask):
        name = "policy"

        def choose(self, params, seen, state, knobs):
            raise AssertionError

    canvas = jaxdec.denoise(oracles.canvas(MODEL), unmask=Weighted())
    with pytest.raises(ValueError, match="with 'target', 'policy'; got dict with 'target'"):
        jaxdec.prepare(canvas, {"target": TABLE}, PROMPT)
    assert decoding.part_names(PLAIN) == () and decoding.part_names(DRAFTED) == ("draft",)
    assert decoding.part_names(GAPS) == ("target",)  # it asks the target itself


def test_one_model_takes_its_own_parameters():
    tokens, order = jax.numpy.asarray(PROMPT), any_subset.lattice(VISIBLE)
    assert any_subset.log_prob(MODEL, TABLE, tokens, order).shape == PROMPT.shape
    with pytest.raises(ValueError, match="the model cannot read its parameters"):
        any_subset.log_prob(MODEL, {"target": TABLE}, tokens, order)
