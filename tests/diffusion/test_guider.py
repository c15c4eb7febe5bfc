"""Guided diffusion: verdicts against a loop, its two limits, and a cache that changes nothing."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import diffusion, generation
from jaxdec.diffusion import denoise, refresh, schedules, unmask
from jaxdec.model import Inputs
from tests.diffusion.canvases import BUDGET, LENGTHS, PROMPTS, VOCAB, decode, oracle, same, texts

pytestmark = pytest.mark.usefixtures("quick_compilation")


@functools.cache
def pair():
    """A canvas and a causal model of the canvas's tokens, which agrees with it now and then."""
    canvas, params = oracle(canvas=True)
    causal = dataclasses.replace(oracle()[0], any_subset=False)
    return canvas, causal, {"target": params, "guider": params}


def guided(**settings):
    canvas, causal, _ = pair()
    return denoise(canvas, unmask=unmask.guider(causal, **settings))


@functools.cache
def laws(model):
    """`p(. | text)` after each token of a text."""
    forward = jax.jit(lambda params, tokens: model(params, Inputs.causal(tokens), None).logits)
    return lambda params, text: np.asarray(jax.nn.softmax(forward(params, jnp.asarray([text])))[0])


def likely(law, token, top, share, least):
    own = law[token]
    return (law > own).sum() < top and own >= share * law.max() and own >= least


RULES = {
    "top": ([1, 3, 4], [0, 0, 0], [0, 0, 0]),
    "share and least": ([VOCAB] * 3, [0.4, 0.2, 0.0], [0.0, 0.15, 0.12]),
}


@functools.cache
def by_rule(rule):
    """Greedy rows, each with knobs of its own."""
    top, share, least = map(np.array, RULES[rule])
    knobs = dict(guider_top=top, guider_share=share, guider_least=least)
    return decode(guided(chunk=5), pair()[2], temperature=0.0, **knobs)


@pytest.mark.parametrize("rule", RULES)
def test_the_causal_model_says_how_far_drafts_hold(rule):
    """Replays greedy rows: what each step committed is the leading run of drafts that pass, one at least."""
    canvas, causal, params = pair()
    found = by_rule(rule)
    drafts = step_drafts(canvas)
    runs = []
    for row, (text, start) in enumerate(zip(texts(found), LENGTHS, strict=True)):
        steps = np.asarray(found.steps)[row]
        knobs = [setting[row] for setting in RULES[rule]]
        at, length = start, start + BUDGET[row]
        while at < length:
            drafted = drafts(params["target"], text[:at], length)
            law = laws(causal)(params["guider"], np.pad(drafted, (0, 48 - length)))
            judged = drafted[at : min(at + 5, length)]
            passed = [likely(law[at + i - 1], t, *knobs) for i, t in enumerate(judged)]
            run = max(int(np.cumprod(passed).sum()), 1)
            assert text[at : at + run] == drafted[at : at + run].tolist()
            assert (steps[at : at + run] == steps[at]).all()
            assert at + run == length or steps[at + run] == steps[at] + 1
            runs.append(run)
            at += run
    assert max(runs) > 2 and min(runs) == 1
    forwards = np.asarray(found.stats.target_forwards)
    np.testing.assert_array_equal(found.stats.draft_forwards, forwards)


@functools.cache
def step_drafts(model):
    """The most probable token of every mask, given the text before it: `(params, text, length) -> [length]`."""
    decoder = denoise(model, unmask=unmask.threshold(0.0))

    def drafts(params, text, length):
        result = generation.generate(
            decoder,
            {"target": params},
            prompt=np.pad(text, (0, 48 - len(text)))[None],
            lengths=np.array([len(text)]),
            max_new_tokens=np.array([length - len(text)]),
            rng=0,
            eos=(),
            threshold=0.0,
            temperature=0.0,
        )
        return np.asarray(result.tokens)[0, :length]

    return drafts


def test_where_nothing_agrees_it_goes_from_left_to_right_and_where_all_does_it_fills_a_chunk():
    canvas, _, params = pair()
    never = decode(guided(chunk=5), params, temperature=0.0, guider_least=1.0)
    plain = denoise(canvas, unmask=unmask.left_to_right())
    same(never, decode(plain, {"target": params["target"]}, temperature=0.0))
    always = decode(guided(chunk=5), params, temperature=0.0, guider_top=VOCAB)
    np.testing.assert_array_equal(always.stats.target_forwards, -(-BUDGET // 5))


@pytest.mark.slow
def test_blocks_and_what_else_commits_leave_the_cache_to_catch_up():
    """With a cache of the canvas and a stop, rows are those of a guider that reads all of its text in one chunk."""
    canvas, causal, params = pair()
    parts = dict(schedule=schedules.blocks(6), stop=diffusion.prophet(), refresh=refresh.none())

    def run(chunk):
        decoder = denoise(canvas, unmask=unmask.guider(causal, chunk=chunk), **parts)
        return decode(decoder, params, temperature=np.array([0.0, 0.7, 1.0]), guider_top=4)

    same(run(16), run(48))


@pytest.mark.slow
def test_drafts_are_kept_with_their_probability():
    """Two laws: of each prompt's second token, among rows whose first was drawn alike."""
    canvas, causal, params = pair()
    rows = 4000
    result = decode(
        guided(chunk=4, top=VOCAB, draws=True),
        params,
        prompt=np.full((rows, 1), 3),
        lengths=None,
        max_new_tokens=2,
        temperature=1.0,
    )
    together = (np.asarray(result.steps)[:, 1:3] == 0).all(1)
    tokens = np.asarray(result.tokens)[:, 1:3]
    known = lambda text: laws(causal)(params["guider"], np.array(text))[-1]
    first = known([3])
    drawn = laws_of_masks(canvas, params["target"], rows)
    # Kept together: the first by its own law, then both by the causal model's word.
    expected = sum(
        drawn[0][a] * drawn[1][b] * first[a] * known([3, a])[b]
        for a in range(VOCAB)
        for b in range(VOCAB)
    )
    error = np.sqrt(expected * (1 - expected) / rows)
    assert 0.001 < expected < 0.5 and abs(together.mean() - expected) < 4 * error
    assert len(np.unique(tokens)) > 3


def laws_of_masks(model, params, rows):
    """Of the two tokens after the prompt, each by itself."""
    result = decode(
        denoise(model, unmask=unmask.threshold(0.0)),
        {"target": params},
        prompt=np.full((5 * rows, 1), 3),
        lengths=None,
        max_new_tokens=2,
        temperature=1.0,
        threshold=0.0,
    )
    tokens = np.asarray(result.tokens)[:, 1:3]
    return [np.bincount(tokens[:, i], minlength=VOCAB) / len(tokens) for i in range(2)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda c, a: unmask.guider(c), "the guider is a causal model; this model fills a canvas"),
        (lambda c, a: unmask.guider(a, chunk=1), "at least 2 tokens a step, got chunk=1"),
        (lambda c, a: unmask.guider(a, top=0), "top must be at least 1, got 0"),
        (lambda c, a: unmask.guider(a, share=1.5), r"share must lie in \[0, 1\], got 1.5"),
        (lambda c, a: denoise(c, unmask=unmask.guider(a), branches=2), "one branch, got 2"),
        (
            lambda c, a: denoise(c, unmask=unmask.guider(a), remask=diffusion.editing()),
            "reads committed tokens once, which must stand, got Editing",
        ),
        (
            lambda c, a: denoise(c, unmask=unmask.guider(dataclasses.replace(a, vocab_size=5))),
            f"has {VOCAB} tokens, the model of the policy 5",
        ),
    ],
)
def test_bad_settings(make, message):
    canvas, causal, _ = pair()
    with pytest.raises(ValueError, match=message):
        make(canvas, causal)


def test_missing_weights_and_an_order():
    _, _, params = pair()
    with pytest.raises(ValueError, match="'guider'"):
        decode(guided(), {"target": params["target"]})
    tokens, visible = np.zeros((1, 4), int), np.array([[True, False, True, False]])
    with pytest.raises(ValueError, match="the request has an order"):
        jaxdec.infill(guided(), params, tokens, visible, rng=0)
    assert PROMPTS.shape[0] == len(LENGTHS)
