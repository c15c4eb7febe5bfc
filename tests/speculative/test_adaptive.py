"""Draft lengths that follow the acceptance, in the loop."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import any_subset
from jaxdec.decoding import init
from jaxdec.speculative.lengths import Acceptance
from jaxdec.testing.oracles import hash_oracle

pytestmark = pytest.mark.usefixtures("quick_compilation")

MODEL, TARGET = hash_oracle(8, seed=1)
OTHER = hash_oracle(8, seed=2)[1]
PROMPT = np.array([[1, 2, 3], [4, 5, 6]])


def drafting(length):
    return jaxdec.speculative(MODEL, drafter=jaxdec.drafters.model(MODEL, length=length))


def decode(draft):
    decoder = jaxdec.adaptive(drafting, (1, 3, 6))
    params = {"target": TARGET, "draft": draft}
    return jaxdec.generate(
        decoder, params, PROMPT, rng=jax.random.key(0), max_new_tokens=64, temperature=0.9
    )


def test_a_good_drafter_drafts_more_than_a_bad_one():
    good, bad = decode(TARGET), decode(OTHER)
    np.testing.assert_array_equal(good.tokens, bad.tokens)
    drafts = lambda result: result.stats.proposed / result.stats.target_forwards
    assert (np.asarray(drafts(good)) > 4).all() and (np.asarray(drafts(bad)) < 2).all()
    assert (np.asarray(good.stats.target_forwards) < 20).all()


def test_a_row_drafts_by_its_own_acceptance():
    decoder = jaxdec.adaptive(drafting, (1, 3, 6))
    request = jaxdec.prepare(decoder, {"target": TARGET, "draft": TARGET}, PROMPT)
    state = init(decoder, {"target": TARGET, "draft": TARGET}, request)
    known = Acceptance(jnp.array([0.1, 99.0]), jnp.array([10.0, 100.0]))
    state = dataclasses.replace(state, acceptance=known)
    assert decoder.choose({}, state).tolist() == [0, 2]


def test_settled_drafts_do_not_count_as_accepted():
    """The first self-draft always stands: it says nothing about the others."""
    decoder = jaxdec.adaptive(lambda k: any_subset.assd(MODEL, width=k), (2, 6))
    tokens = np.tile(np.arange(24) % 8, (2, 1))
    visible = tokens % 4 == 0
    result = jaxdec.infill(
        decoder, {"target": TARGET * 4}, tokens, visible, rng=jax.random.key(0), temperature=1.0
    )
    # Peaked laws that change with every token: independent drafts hardly ever agree with them.
    rounds = np.asarray(result.stats.target_forwards) // 2
    assert (np.asarray(result.stats.proposed) <= 3 * rounds).all()


@pytest.mark.parametrize("make", [jaxdec.drafters.prompt_lookup, jaxdec.drafters.input_copy])
def test_drafters_without_a_model_change_their_length(make):
    decoder = jaxdec.adaptive(
        lambda k: jaxdec.speculative(MODEL, drafter=make(length=k)),
        (1, 4),
        rule=jaxdec.lengths.by_acceptance(draft_cost=0.0),
    )
    options = dict(rng=jax.random.key(0), max_new_tokens=32, temperature=0.9)
    plain = jaxdec.generate(jaxdec.autoregressive(MODEL), {"target": TARGET}, PROMPT, **options)
    result = jaxdec.generate(decoder, {"target": TARGET}, PROMPT, **options)
    np.testing.assert_array_equal(plain.tokens, result.tokens)
    assert (np.asarray(result.stats.proposed) > 0).all()


def test_a_window_of_guesses_cannot_change_its_length():
    drafting = lambda k: jaxdec.speculative(MODEL, drafter=jaxdec.drafters.jacobi(MODEL, length=k))
    with pytest.raises(ValueError, match="the window holds 4 guesses, the drafter makes 1"):
        jaxdec.generate(
            jaxdec.adaptive(drafting, (1, 4)), {"target": TARGET}, PROMPT, rng=jax.random.key(0)
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(lengths=()), r"at least one, got \(\)"),
        (dict(lengths=(2, 2)), r"different integers, at least one, got \(2, 2\)"),
        (dict(lengths=(0,)), r"at least 0, and one of them above, got \(0,\)"),
        (dict(lengths=(-1, 2)), r"at least 0, and one of them above, got \(-1, 2\)"),
        (dict(lengths=(0, 2)), "by_acceptance takes lengths of at least 1, got 0"),
        (dict(rule=0.1), "rule must be a LengthRule or None, got 0.1"),
        (dict(make=lambda k: any_subset.fused(MODEL, width=k)), "FusedDrafter cannot change"),
    ],
)
def test_impossible_settings(options, message):
    options = {"make": drafting, **options}
    with pytest.raises(ValueError, match=message):
        jaxdec.adaptive(**options)


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        (
            jaxdec.lengths.by_acceptance,
            dict(draft_cost=-0.1),
            "draft_cost must be at least 0, got -0.1",
        ),
        (jaxdec.lengths.by_acceptance, dict(memory=0.0), r"memory must lie in \(0, 1\], got 0.0"),
        (jaxdec.lengths.by_load, dict(memory=1.5), r"memory must lie in \(0, 1\], got 1.5"),
        (jaxdec.lengths.by_load, dict(fading=0.0), r"fading must lie in \(0, 1\], got 0.0"),
        (jaxdec.lengths.by_load, dict(expected=1.0), r"expected must lie in \[0, 1\), got 1.0"),
        (jaxdec.lengths.by_load, dict(margin=-0.1), "margin must be at least 0, got -0.1"),
    ],
)
def test_impossible_rules(rule, options, message):
    with pytest.raises(ValueError, match=message):
        rule(**options)
