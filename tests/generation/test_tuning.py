"""The choice of the draft length; time comes from a clock that the tests turn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import any_subset
from jaxdec.generation import tuning
from jaxdec.testing.oracles import blend, hash_oracle

pytestmark = pytest.mark.usefixtures("quick_compilation")

NEVER = 7  # an EOS that the model does not emit, so that all tests share their programs
MODEL, TARGET = hash_oracle(8, seed=1)
TARGET = TARGET.at[:, NEVER].set(-jnp.inf)
PARAMS = {"target": TARGET, "draft": blend(hash_oracle(8, seed=2)[1], TARGET, 0.7)}
SETTINGS = {"max_new_tokens": 8, "temperature": 0.8, "eos": (NEVER,)}
PROMPT = jnp.array([[1, 2, 3], [4, 5, 6]])


class Clock:
    """Decoding takes given seconds: `durations[length]`, one after the other in each repeat."""

    def __init__(self, **durations):
        self.durations = {int(name[1:]): seconds for name, seconds in durations.items()}
        self.now, self.reads, self.calls = 0.0, 0, []

    def __call__(self):
        self.reads += 1
        return self.now

    def generate(self, decoder, *args, **kwargs):
        length = decoder.width - 1
        repeat = self.calls.count(length) - 1  # the first call compiles
        seconds = self.durations.get(length, 1.0)
        if np.ndim(seconds):
            seconds = seconds[max(repeat, 0)]
        self.now += seconds
        self.calls.append(length)
        return jaxdec.generate(decoder, *args, **kwargs)


@pytest.fixture
def choose(monkeypatch):
    def choose(clock, params=PARAMS, **kwargs):
        monkeypatch.setattr(tuning, "generate", clock.generate)
        kwargs = {"lengths": (1, 2), "new_tokens": 8, "temperature": 0.8, "eos": (NEVER,), **kwargs}
        return jaxdec.auto_draft_length(
            MODEL, drafter_of, params, PROMPT, rng=jax.random.key(0), clock=clock, **kwargs
        )

    return choose


def drafter_of(length):
    return jaxdec.drafters.model(MODEL, length=length)


def test_the_fastest_length_is_chosen(choose):
    clock = Clock(_0=4.0, _1=3.0, _2=2.0)
    choice = choose(clock)
    assert choice.length == 2
    assert choice.decoder == jaxdec.speculative(MODEL, drafter=drafter_of(2))
    assert choice.seconds_per_token == {0: 4 / 16, 1: 3 / 16, 2: 2 / 16}
    assert clock.reads == 2 * 3 * 3, "one measurement of each length in each repeat"
    rounds = [clock.calls[at : at + 3] for at in (3, 6, 9)]
    assert all(sorted(calls) == [0, 1, 2] for calls in rounds)
    assert len(set(map(tuple, rounds))) > 1, (
        "the lengths take turns in an order of its own each time"
    )


@pytest.mark.parametrize(("plain", "length"), [(1.04, 0), (1.0, 0), (0.5, 0), (1.1, 1)])
def test_a_length_must_beat_plain_decoding_by_more_than_the_margin(choose, plain, length):
    choice = choose(Clock(_0=plain), margin=0.05)
    assert choice.length == length
    if not length:
        assert choice.decoder == jaxdec.autoregressive(MODEL)


def test_the_median_decides_and_not_one_slow_repeat(choose):
    # In one repeat length 2 is held up. The mean would prefer plain decoding.
    choice = choose(Clock(_0=4.0, _1=5.0, _2=[90, 2, 2]))
    assert choice.length == 2


def test_tokens_per_forward_are_counted(choose):
    choice = choose(Clock(), params={"target": TARGET, "draft": TARGET}, lengths=(1,))
    assert choice.tokens_per_forward == {0: 1.0, 1: 2.0}


def test_the_chosen_decoder_gives_the_text_of_plain_decoding(choose):
    choice = choose(Clock(_0=4.0, _1=3.0, _2=2.0))
    run = lambda decoder: jaxdec.generate(
        decoder, PARAMS, PROMPT, rng=jax.random.key(3), **SETTINGS
    )
    plain, chosen = run(jaxdec.autoregressive(MODEL)), run(choice.decoder)
    width = plain.tokens.shape[1]
    np.testing.assert_array_equal(plain.tokens, chosen.tokens[:, :width])


def test_rows_that_end_early_count_their_own_tokens(choose):
    first = jaxdec.generate(
        jaxdec.autoregressive(MODEL), PARAMS, PROMPT, rng=jax.random.key(0), **SETTINGS
    )
    eos = int(first.tokens[0, PROMPT.shape[1]])  # ends the first row at once
    tokens = int((first.tokens[1, 3:11] == eos).argmax() + 1 if eos in first.tokens[1, 3:11] else 8)
    choice = choose(Clock(), eos=(eos,))
    assert choice.seconds_per_token[0] == choice.seconds_per_token[2] == 1 / (1 + tokens)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"lengths": ()}, r"at least 1, got \(\)"),
        ({"lengths": (0, 2)}, r"at least 1, got \(0, 2\)"),
        ({"lengths": (2, 2)}, r"different integers .* got \(2, 2\)"),
        ({"new_tokens": 0}, "new_tokens must be at least 1, got 0"),
        ({"repeats": 0}, "repeats must be at least 1, got 0"),
        ({"margin": -0.1}, "margin must be at least 0, got -0.1"),
        ({"margin": float("nan")}, "margin must be at least 0, got nan"),
        ({"max_new_tokens": 3}, "set by new_tokens"),
        ({"temperature": -1.0}, "temperature"),
    ],
)
def test_impossible_arguments(choose, kwargs, message):
    with pytest.raises(ValueError, match=message):
        choose(Clock(), **kwargs)


def test_prompts_without_a_token(choose):
    with pytest.raises(ValueError, match="no prompt gave a token"):
        choose(Clock(), params={"target": TARGET * jnp.nan, "draft": TARGET})


def test_infilling_decoders_are_chosen_alike(monkeypatch):
    tokens = np.tile(np.arange(6), (2, 1))
    visible = tokens % 3 == 0
    decoders = {
        "sequential": jaxdec.autoregressive(MODEL),
        "assd": any_subset.assd(MODEL, width=2),
    }
    seconds = {1: 1.0}
    for faster, name in [(0.5, "assd"), (0.97, "sequential")]:
        seconds[3], clock = faster, Clock()

        def infill(decoder, *args, clock=clock, **kwargs):
            clock.now += seconds[decoder.width]
            return jaxdec.infill(decoder, *args, **kwargs)

        monkeypatch.setattr(tuning, "infill", infill)
        choice = jaxdec.auto_infill(
            decoders,
            {"target": TARGET},
            tokens,
            visible,
            rng=jax.random.key(0),
            clock=clock,
            temperature=0.9,
        )
        assert choice.name == name and choice.decoder == decoders[name]
        assert choice.seconds_per_token["sequential"] == pytest.approx(1 / 8)
        assert choice.tokens_per_forward["sequential"] == 1.0
    with pytest.raises(ValueError, match="no decoder to choose from"):
        jaxdec.auto_infill({}, {"target": TARGET}, tokens, visible, rng=jax.random.key(0))
