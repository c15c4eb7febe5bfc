"""Methods take turns under one clock, and what is said of their results."""

import jax
import numpy as np
import pytest

import jaxdec
from jaxdec.measuring.comparison import counts, decoding, identical, new_tokens
from jaxdec.measuring.timing import Method, Timing, interleave, quartiles, ratios
from jaxdec.sampling import row_keys
from jaxdec.testing.oracles import blend, hash_oracle


def test_methods_take_turns_and_set_up_apart():
    calls, now = [], iter(range(1000))

    def method(name):
        return Method(name, lambda held: calls.append(held), lambda: name)

    reported = []
    timings = interleave(
        [method("a"), method("b")], repeats=8, clock=lambda: next(now), report=reported.append
    )
    assert reported == calls
    assert calls[:2] == ["a", "b"], "one call that is not timed"
    rounds = [calls[i : i + 2] for i in range(2, 18, 2)]
    assert all(sorted(turn) == ["a", "b"] for turn in rounds) and len(calls) == 18
    assert ["a", "b"] in rounds and ["b", "a"] in rounds, "the order changes"
    assert timings["a"].seconds == timings["a"].setup_seconds == (1,) * 8


def test_what_is_not_waited_for_is_refused():
    class Opaque:
        pass

    with pytest.raises(ValueError, match="Opaque, which nobody waits for"):
        interleave([Method("opaque", lambda held: [Opaque()], lambda: None)])


def test_compiling_while_the_clock_runs_is_an_error():
    sizes = iter([3, 3, 4, 3])  # the third call has a shape that was not seen before
    double = jax.jit(lambda x: 2 * x)
    changing = Method("changing", double, lambda: np.zeros(next(sizes), np.float32))
    with pytest.raises(RuntimeError, match="1 programs were compiled while the clock ran"):
        interleave([changing], repeats=3)
    interleave([Method("steady", double, lambda: np.zeros(3, np.float32))], repeats=3)


def test_identical_counts_missing_tokens_as_different():
    rows = [np.array([1, 2, 3]), np.array([4])]
    assert identical(rows, rows) == 1
    assert identical(rows, [np.array([1, 0, 3]), np.array([4, 5])]) == 3 / 5


@pytest.fixture(scope="module")
def pair():
    """Two models that agree now and then, and a request of two rows for a chain of four drafts."""
    model, params = hash_oracle(8, seed=1)
    params = {"target": params, "draft": blend(hash_oracle(8, seed=2)[1], params, 0.7)}
    decoder = jaxdec.speculative(model, drafter=jaxdec.drafters.model(model, length=4))
    return model, decoder, params


def test_decoding_as_a_timed_method(pair, quick_compilation):
    _, decoder, params = pair
    prompt = np.array([[1, 2, 3], [4, 5, 6]])
    settings = dict(max_new_tokens=30, temperature=0.8, eos=())
    request = jaxdec.prepare(decoder, params, prompt, **settings)
    keys = row_keys(jax.random.key(0), 2)
    method = decoding("draft", decoder, params, [request], [keys])
    timing = interleave([method], repeats=2)["draft"]
    whole = jaxdec.generate(decoder, params, prompt, rng=jax.random.key(0), **settings)
    assert len(timing.seconds) == 2
    rows = new_tokens(timing.output)
    assert [row.tolist() for row in rows] == np.asarray(whole.tokens[:, 3:33]).tolist()
    found = counts(timing.output)
    assert (found["tokens"], found["loop_steps"]) == (60, int(whole.stats.target_forwards.max()))
    assert found["draft_forwards"] == 4 * found["target_forwards"] == found["proposed"]


def test_acceptance_by_depth_counts_steps(pair, quick_compilation):
    _, decoder, params = pair
    prompt = np.array([[1, 2, 3], [4, 5, 6]])
    settings = dict(max_new_tokens=30, temperature=0.8, eos=())
    request = jaxdec.prepare(decoder, params, prompt, **settings)
    keys = row_keys(jax.random.key(0), 2)
    state = jaxdec.decoding.init(decoder, params, request)
    accepted = []
    for _, info in jaxdec.stream(decoder, params, state, keys):
        # What a step commits; its last one is cut where the row ends.
        drafted = np.asarray(info.drafted) & (np.arange(5) < np.asarray(info.count)[:, None])
        accepted.append(np.where(np.asarray(info.count) > 0, drafted.sum(1), -1))
    expected = (np.array(accepted)[..., None] >= np.arange(5)).sum(0)
    result = jaxdec.generate(decoder, params, prompt, rng=jax.random.key(0), **settings)
    found = jaxdec.acceptance_by_depth(result, 4)
    assert found.tolist() == expected.tolist()
    assert found[:, 0].tolist() == result.stats.target_forwards.tolist()
    assert found[:, 1].min() > 0 and (np.diff(found, axis=1) <= 0).all()
    longest = jaxdec.acceptance_by_depth(result)
    assert longest.tolist() == found[:, : longest.shape[1]].tolist() and longest[:, -1].any()


def test_plain_decoding_accepts_nothing(pair, quick_compilation):
    model, _, params = pair
    prompt = np.array([[1, 2, 3]])
    for tokens in (0, 5):
        result = jaxdec.generate(
            jaxdec.autoregressive(model),
            params,
            prompt,
            rng=jax.random.key(0),
            max_new_tokens=tokens,
            eos=(),
        )
        assert jaxdec.acceptance_by_depth(result).tolist() == [[tokens]]


def test_quartiles_and_ratios():
    assert quartiles([4.0]) == (4.0, 4.0)
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 4.0)
    slow, fast = Timing((4.0, 9.0), (0.0, 0.0), None), Timing((2.0, 3.0), (0.0, 0.0), None)
    assert ratios(slow, fast) == [2.0, 3.0]
