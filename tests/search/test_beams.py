"""Beam search, alone and in groups: equal to a plain twin, whatever the settings of the rows beside it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import decoding, search
from jaxdec.decoding import Status
from jaxdec.search import beam_rules
from tests.search import beam_twin
from tests.search.beam_twin import MODEL, PARAMS, VOCAB

pytestmark = pytest.mark.usefixtures("quick_compilation")

EOS = (0, 4)
PROMPTS = [[1, 2, 3], [5], [2, 2], [3, 1, 5, 1], [4, 1], [1], [0, 3, 0], [2, 5]]
SETTINGS = [
    dict(length_penalty=penalty, early_stopping=early)
    for penalty in (0.0, 1.0, 2.0, -1.0)
    for early in (0, 1, 2)
]
BUDGETS = (9, 5, 12, 1, 7)


def asked(settings):
    """The arguments of a batch of prompts, each with settings of its own."""
    prompts = [PROMPTS[i % len(PROMPTS)] for i in range(len(settings))]
    wide = max(map(len, prompts))
    return dict(
        prompt=np.array([[*p, *[0] * (wide - len(p))] for p in prompts]),
        lengths=np.array([len(p) for p in prompts]),
        max_new_tokens=np.array([BUDGETS[i % len(BUDGETS)] for i in range(len(settings))]),
        eos=EOS,
        **{name: np.array([one[name] for one in settings]) for name in settings[0]},
    )


def check(result, settings, hypotheses, groups=1):
    """Rows, scores and log-probabilities are those of the twin."""
    arguments = asked(settings)
    tokens, scores = np.asarray(result.tokens), np.asarray(result.pool.scores)
    for p, one in enumerate(settings):
        start = int(arguments["lengths"][p])
        prompt = arguments["prompt"][p, :start].tolist()
        found = beam_twin.search(
            prompt, hypotheses, int(arguments["max_new_tokens"][p]), EOS, groups=groups, **one
        )
        expected = [one for group in found for one in group]
        for h, (score, new) in enumerate(expected):
            row = p * hypotheses + h
            got = tokens[row, start : result.lengths[row]].tolist()
            assert got == new, (p, h, one)
            np.testing.assert_allclose(scores[row], score, rtol=1e-5)
            status = Status.EOS if new[-1] in EOS else Status.LENGTH
            assert result.status[row] is status
            law = [beam_twin.after([[*prompt, *new[:i]]])[0][token] for i, token in enumerate(new)]
            np.testing.assert_allclose(
                np.asarray(result.log_probs)[row, start : start + len(new)], law, rtol=1e-5
            )
            assert not np.asarray(result.log_probs)[row, start + len(new) :].any()
            assert np.asarray(result.steps)[row, start : start + len(new)].tolist() == list(
                range(len(new))
            )


def test_beam_search_is_the_twin_under_all_settings():
    decoder = search.beams(MODEL)
    traces = []
    counted = dataclasses.replace(MODEL, forward=Traced(MODEL.forward, traces))
    decoder = search.beams(counted)
    generate = functools.partial(jaxdec.generate, decoder, PARAMS, rng=0, hypotheses=3)
    result = generate(**asked(SETTINGS))
    check(result, SETTINGS, 3)
    assert Status.EOS in result.status and Status.LENGTH in result.status
    before = len(traces)
    turned = SETTINGS[5:] + SETTINGS[:5]
    check(generate(**asked(turned)), turned, 3)
    assert len(traces) == before  # settings compile nothing


@dataclasses.dataclass(frozen=True)
class Traced:
    """A forward that notes each time it is traced."""

    forward: object
    traces: list = dataclasses.field(hash=False, compare=False)

    def __call__(self, params, inputs, cache):
        self.traces.append(inputs.tokens.shape)
        return self.forward(params, inputs, cache)


DIVERSE = [dict(one, diversity=value) for one in SETTINGS[:6] for value in (0.0, 0.7, 20.0)]


def test_diverse_beams_are_the_twin_and_beam_search_without_a_penalty():
    decoder = search.diverse_beams(MODEL, groups=2)
    result = jaxdec.generate(decoder, PARAMS, rng=0, hypotheses=4, **asked(DIVERSE))
    check(result, DIVERSE, 4, groups=2)
    tokens = np.asarray(result.tokens).reshape(len(DIVERSE), 2, 2, -1)
    for p, one in enumerate(DIVERSE):
        same = (tokens[p, 0] == tokens[p, 1]).all()
        assert same or one["diversity"] > 0
        if one["diversity"] == 0:
            start, most = (
                int(asked(DIVERSE)["lengths"][p]),
                int(asked(DIVERSE)["max_new_tokens"][p]),
            )
            own = {name: value for name, value in one.items() if name != "diversity"}
            alone = beam_twin.search(tokens[p, 0, 0, :start].tolist(), 2, most, EOS, **own)[0]
            assert alone[0][1] == tokens[p, 0, 0, start : start + len(alone[0][1])].tolist()


def continuations(prompts=5, hypotheses=4, seed=0):
    """Random continuations, some of hypotheses that have ended or do not exist."""
    rng = np.random.default_rng(seed)
    law = jax.nn.log_softmax(
        jnp.asarray(rng.normal(size=(prompts, hypotheses, VOCAB)), jnp.float32)
    )
    running = jnp.asarray(rng.random((prompts, hypotheses)) < 0.8)
    scores = jnp.asarray(-rng.exponential(size=(prompts, hypotheses)), jnp.float32)
    return beam_rules.Continuations(
        law=jnp.where(running[..., None], law, -jnp.inf),
        scores=jnp.where(jnp.asarray(rng.random(scores.shape) < 0.8), scores, -jnp.inf),
        running=running,
        new=jnp.ones(scores.shape, jnp.int32),
        length=jnp.full(scores.shape, 3, jnp.int32),
        ends=lambda tokens: tokens == 0,
        knobs={"diversity": jnp.linspace(0.0, 2.0, prompts)},
        keys=jax.random.split(jax.random.key(1), scores.shape),
    )


def test_one_group_is_beam_search_and_a_large_penalty_parts_the_first_tokens():
    seen = continuations()
    one, all_of = (
        r.choose(None, seen, 8) for r in (beam_rules.Diverse(1), beam_rules.MostProbable())
    )
    for x, y in zip(
        (one.source, one.token, one.score), (all_of.source, all_of.token, all_of.score), strict=True
    ):
        np.testing.assert_array_equal(x, y)
    seen = dataclasses.replace(seen, knobs={"diversity": jnp.full(5, 1e4)}, ends=lambda t: t < 0)
    running = seen.running & jnp.isfinite(seen.scores)
    choice = beam_rules.Diverse(4).choose(None, seen, 1)
    for p in range(5):
        tokens = np.asarray(choice.token)[p, np.asarray(running)[p], 0]
        assert len(set(tokens.tolist())) == len(tokens)


def test_hypotheses_without_a_continuation_stand_behind_the_finished_ones():
    """Two tokens are allowed: no more than two hypotheses after one token, and those that are not there say so."""
    banned = ~np.isin(np.arange(VOCAB), (1, 2))
    options = dict(rng=0, hypotheses=3, eos=(), lengths=[1, 2], max_new_tokens=[1, 4])
    decoder = search.beams(MODEL)
    result = jaxdec.generate(decoder, PARAMS, np.array([[1, 0], [3, 3]]), banned=banned, **options)
    assert result.status == [Status.LENGTH] * 2 + [Status.NONFINITE] + [Status.LENGTH] * 3
    np.testing.assert_array_equal(result.lengths, [2, 2, 1, 6, 6, 6])
    scores = np.asarray(result.pool.scores)
    assert (scores == -np.inf).tolist() == [False] * 2 + [True] + [False] * 3
    assert (np.diff(scores.reshape(2, 3)[:, :2]) < 0).all()


def test_a_hypothesis_whose_law_is_broken_leaves_the_others_alone():
    table = PARAMS["target"].at[::7].set(jnp.nan)
    arguments = asked(SETTINGS[:4])
    result = jaxdec.generate(
        search.beams(MODEL), {"target": table}, rng=0, hypotheses=3, **arguments
    )
    statuses = set(result.status)
    assert statuses <= {Status.EOS, Status.LENGTH, Status.NONFINITE} and len(statuses) > 1
    log_probs = np.asarray(result.log_probs)
    assert np.isfinite(log_probs).all()


def test_a_prompt_knows_nothing_of_its_neighbours():
    decoder = search.beams(MODEL)
    arguments = asked(SETTINGS)
    whole = jaxdec.generate(decoder, PARAMS, rng=0, hypotheses=3, **arguments)
    turned = {name: value if name == "eos" else value[::-1] for name, value in arguments.items()}
    other = jaxdec.generate(decoder, PARAMS, rng=0, hypotheses=3, **turned)
    flip = lambda x: np.asarray(x).reshape(len(SETTINGS), 3, *x.shape[1:])[::-1].reshape(x.shape)
    for x, y in zip(jax.tree.leaves(whole), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(x, flip(y))


def test_a_run_in_pieces_and_a_stream_are_the_run():
    decoder, arguments = search.beams(MODEL), asked(SETTINGS)
    whole = jaxdec.generate(decoder, PARAMS, rng=0, hypotheses=3, **arguments)
    request = jaxdec.prepare(decoder, PARAMS, hypotheses=3, **arguments)
    state, record = decoding.init(decoder, PARAMS, request), None
    for steps in (4, None):
        state, record = decoding.run(decoder, PARAMS, state, 0, steps, record)
    pieces = jaxdec.generation.result(state, record)
    for x, y in zip(jax.tree.leaves(whole), jax.tree.leaves(pieces), strict=True):
        np.testing.assert_array_equal(x, y)


def test_what_cannot_be_is_refused():
    ask = functools.partial(jaxdec.generate, params=PARAMS, prompt=np.array([[1]]), rng=0)
    with pytest.raises(ValueError, match=r"hypotheses must divide over 2 groups, got 3"):
        ask(search.diverse_beams(MODEL), hypotheses=3)
    with pytest.raises(ValueError, match=r"temperature must be above 0 for 2 hypotheses, got 0"):
        ask(search.beams(MODEL), hypotheses=2, temperature=0.0)
    with pytest.raises(ValueError, match="early_stopping must lie in"):
        ask(search.beams(MODEL), early_stopping=3)
    with pytest.raises(ValueError, match="groups must be at least 1, got 0"):
        search.diverse_beams(MODEL, groups=0)
    with pytest.raises(ValueError, match="rule must be"):
        search.beams(MODEL, rule=3)
