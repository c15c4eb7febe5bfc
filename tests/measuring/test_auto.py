"""The choice among all drafters; time comes from a clock that the tests turn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec.measuring import choosing, forwards
from jaxdec.testing.heads import oracle_heads
from jaxdec.testing.oracles import blend, hash_oracle

pytestmark = pytest.mark.usefixtures("quick_compilation")

NEVER = 7  # an EOS that the model does not emit
MODEL, TARGET = hash_oracle(8, seed=1)
TARGET = TARGET.at[:, NEVER].set(-jnp.inf)
PARAMS = {"target": TARGET, "draft": blend(hash_oracle(8, seed=2)[1], TARGET, 0.7)}
PROMPT = jnp.array([[1, 2, 3], [4, 5, 6]])
FLAT = jaxdec.ForwardCosts({1: 1.0, 64: 1.0})
DRAFTER = {"draft": MODEL}


def choose(drafters=DRAFTER, **kwargs):
    kwargs = {"new_tokens": 8, "temperature": 0.8, "eos": (NEVER,), "drafts": (2,), **kwargs}
    return jaxdec.auto(MODEL, PARAMS, PROMPT, rng=jax.random.key(0), drafters=drafters, **kwargs)


def test_a_prediction_is_the_cost_of_a_step_over_its_tokens():
    costs = jaxdec.ForwardCosts({1: 1.0, 3: 2.0, 5: 6.0})
    choice = choose(costs=costs, draft_seconds=0.25)
    rate = choice.tokens_per_forward
    assert set(rate) == {
        "plain", "lookup 2", "draft 2", "draft-tree 2"
    }  # fmt: skip
    assert choice.predicted["plain"] == 1 / 2, "two rows a forward"
    assert choice.predicted["lookup 2"] == pytest.approx(2 / rate["lookup 2"] / 2)
    assert choice.predicted["draft 2"] == pytest.approx(2.5 / rate["draft 2"] / 2)
    assert choice.predicted["draft-tree 2"] == pytest.approx(2.25 / rate["draft-tree 2"] / 2)
    assert choice.seconds_per_token == {}, "nothing was timed"


def test_what_costs_nothing_is_chosen_by_its_tokens_and_what_costs_is_not():
    free = choose(costs=FLAT)
    assert free.name == max(free.tokens_per_forward, key=free.tokens_per_forward.get) != "plain"
    dear = choose(costs=jaxdec.ForwardCosts({1: 1.0, 2: 50.0}))
    assert dear.name == "plain" and dear.decoder == jaxdec.autoregressive(MODEL)
    at_margin = choose(costs=FLAT, margin=100.0)
    assert at_margin.name == "plain", "drafts must be clearly faster"


class Clock:
    """Decoding takes the seconds of its width; reads in between take none."""

    def __init__(self, seconds):
        self.seconds, self.now, self.calls = seconds, 0.0, []

    def __call__(self):
        return self.now

    def generate(self, decoder, *args, **kwargs):
        self.now += self.seconds(decoder)
        self.calls.append(decoder)
        return jaxdec.generate(decoder, *args, **kwargs)


def test_the_clock_chooses_and_the_slow_leave_early(monkeypatch):
    width = lambda decoder: decoder.width
    clock = Clock(lambda decoder: {1: 4.0, 3: 2.0, 5: 9.0}[width(decoder)])
    monkeypatch.setattr(choosing, "generate", clock.generate)
    # What forwards and proposals cost is measured apart, and decides nothing.
    monkeypatch.setattr(choosing, "forward_costs", lambda *_, **__: FLAT)
    monkeypatch.setattr(
        choosing, "proposal_costs", lambda named, *_, **__: dict.fromkeys(named, 1.0)
    )
    chain = {"draft": lambda n: jaxdec.drafters.model(MODEL, length=n)}
    choice = choose(drafters=chain, drafts=(2, 4), repeats=3, clock=clock)
    assert choice.name in ("draft 2", "lookup 2") and width(choice.decoder) == 3
    times = {5: 2, 3: 4, 1: 4}  # one that compiles, and the repeats until it falls behind
    for tokens, count in times.items():
        names = 1 if tokens == 1 else 2
        assert sum(width(decoder) == tokens for decoder in clock.calls) == count * names
    assert choice.predicted["plain"] == 1 / 2
    assert choice.predicted["draft 2"] == pytest.approx(
        2 / choice.tokens_per_forward["draft 2"] / 2
    )
    table = str(choice).splitlines()
    assert len(table) == 6 and table[1].startswith(f"* {choice.name}")


def test_costs_are_measured_on_this_device():
    choice = choose(repeats=1)
    assert set(choice.predicted) == set(choice.seconds_per_token) == set(choice.tokens_per_forward)
    assert all(0 < seconds < 60 for seconds in choice.predicted.values())


def test_the_text_is_that_of_plain_decoding():
    chosen = choose(costs=FLAT).decoder
    run = lambda decoder: jaxdec.generate(
        decoder,
        PARAMS,
        PROMPT,
        rng=jax.random.key(3),
        max_new_tokens=8,
        temperature=0.8,
        eos=(NEVER,),
    )
    plain, tokens = run(jaxdec.autoregressive(MODEL)).tokens, run(chosen).tokens
    np.testing.assert_array_equal(plain, tokens[:, : plain.shape[1]])


def test_heads_draft_trees_of_their_depth():
    heads, _ = oracle_heads(8, 3, reads_path=False)
    drafter = choosing.ladders({"medusa": heads})["medusa"](8)
    assert (drafter.nodes, drafter.depth, drafter.name) == (8, 3, "medusa")


def test_measured_forwards_take_turns(monkeypatch):
    ran = []
    monkeypatch.setattr(
        forwards,
        "forwards",
        lambda model, params, cache, tokens, steps: ran.append(tokens.shape),
    )
    ticks = iter(range(100))
    found = jaxdec.forward_costs(
        MODEL,
        TARGET,
        batch=2,
        context=16,
        tokens=(4, 1),
        steps=2,
        repeats=2,
        clock=lambda: next(ticks),
    )
    assert found.seconds == {1: 0.5, 4: 0.5}
    assert ran[:2] == [(2, 1), (2, 4)], "both compile, and then take turns"
    assert sorted(ran) == [(2, 1)] * 3 + [(2, 4)] * 3


def test_costs_between_and_beyond_what_is_known():
    costs = jaxdec.ForwardCosts({4: 2.0, 1: 1.0, 8: 4.0})
    assert [costs.at(n) for n in (1, 4, 6, 8, 16)] == [1, 2, 3, 4, 8]
    falling = jaxdec.ForwardCosts({1: 2.0, 2: 1.0})
    assert falling.at(9) == 1.0, "noise does not make more tokens cheaper than what was measured"
    plan = {"verification": [{"tokens": 1, "seconds": 0.5}, {"tokens": 8, "seconds": 1.0}]}
    assert jaxdec.ForwardCosts.of_plan(plan).at(8) == 1.0
    with pytest.raises(ValueError, match="no costs of verification"):
        jaxdec.ForwardCosts.of_plan({"verification": None})


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"drafts": ()}, r"at least 1, got \(\)"),
        ({"drafts": (0, 2)}, r"at least 1, got \(0, 2\)"),
        ({"new_tokens": 0}, "new_tokens must be at least 1, got 0"),
        ({"max_new_tokens": 3}, "set by new_tokens"),
        ({"draft_seconds": 1.0}, "0 without costs, got 1.0"),
        ({"draft_seconds": -1.0, "costs": FLAT}, "at least 0, .* got -1.0"),
        ({"drafters": {"lookup": MODEL}}, "got 'lookup' twice"),
        ({"drafters": {"medusa": MODEL}}, "medusa"),
    ],
)
def test_impossible_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        choose(**kwargs)


@pytest.mark.parametrize(
    ("seconds", "message"),
    [({}, "at least one"), ({0: 1.0}, "got 0: 1.0"), ({1: -1.0}, "got 1: -1.0")],
)
def test_impossible_costs(seconds, message):
    with pytest.raises(ValueError, match=message):
        jaxdec.ForwardCosts(seconds)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"tokens": (16,)}, r"in \[1, 12\] for a context of 16, got \[16\]"),
    ],
)
def test_impossible_measurements(kwargs, message):
    with pytest.raises(ValueError, match=message):
        jaxdec.forward_costs(MODEL, TARGET, **{"batch": 1, "context": 16, "tokens": (1,), **kwargs})
