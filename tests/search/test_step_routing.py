"""Routing of steps against a Python loop that decodes each step by itself."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import sampling, search
from jaxdec.model import Inputs
from jaxdec.search import gates
from jaxdec.testing import oracles, python_twin
from tests.search.rows import EOS, MODEL, PARAMS, VOCAB

pytestmark = pytest.mark.usefixtures("quick_compilation")

LINE, MOST = 2, 4
SEGMENT = search.until([LINE], most=MOST)
PROMPTS, LENGTHS = np.array([[1, 2, 3], [4, 5, 0], [3, 0, 0], [5, 5, 1]]), np.array([3, 2, 1, 3])
BUDGET = np.array([14, 9, 13, 11])
CALIBRATION = np.array([9.0, 2.5, 4.0, 6.0, 3.0])
KEY = jax.random.key(3)


def odd(tokens, prompt_length, length):
    """A reward, as its logit, which rises with odd new tokens."""
    place = jnp.arange(tokens.shape[1])
    new = (place >= prompt_length[:, None]) & (place < length[:, None])
    return jnp.sum(jnp.where(new, tokens % 2 - 0.5, 0.0), axis=1)


def reward(new):
    """The same of the new tokens of one row."""
    return 1 / (1 + np.exp(-sum(token % 2 - 0.5 for token in new)))


@jax.jit
def raw_laws(table, tokens):
    return jax.nn.log_softmax(MODEL(table, Inputs.causal(tokens), None).logits)[0]


def under_target(text, new):
    """The target's log-probabilities of what follows a text."""
    padded = np.zeros((1, 32), np.int32)
    padded[0, : len(text) + len(new)] = [*text, *new]
    laws = np.asarray(raw_laws(PARAMS["target"], padded))
    return [float(laws[len(text) - 1 + i, token]) for i, token in enumerate(new)]


@dataclasses.dataclass
class Twin:
    """One row; `seen` and `forwards` are of each model."""

    prompt: list
    budget: int
    key: object
    rewrite: bool = True
    reads: bool = False
    compares: bool = False

    def __post_init__(self):
        self.text, self.drafted, self.log_probs, self.raw = list(self.prompt), [], [], []
        self.seen = dict.fromkeys(("target", "draft"), len(self.prompt) - 1)
        self.forwards = dict.fromkeys(("target", "draft"), 0)
        self.kept = self.judged = 0

    @property
    def over(self):
        new = self.text[len(self.prompt) :]
        return bool(new) and (new[-1] == EOS or len(new) >= self.budget)

    def write(self, who):
        """A step, by itself."""
        left = self.budget - (len(self.text) - len(self.prompt))
        found = python_twin(
            MODEL,
            PARAMS[who],
            self.text,
            self.key,
            max_new_tokens=min(MOST, left),
            eos=[EOS, LINE],
            temperature=0.9,
        )
        new = found.tokens[len(self.text) :]
        behind = len(self.text) - 1 - self.seen[who]
        self.forwards[who] += -(-behind // MOST) + len(new)
        self.seen[who] = len(self.text) + len(new) - 1
        return new, found.log_probs, found.raw_log_probs

    def take(self, step, by_draft):
        new, log_probs, raw = step
        self.text += new
        self.log_probs += log_probs
        self.raw += raw
        self.drafted += [by_draft] * len(new)

    def go(self, keeps):
        """Runs to its end; `keeps(self, drafted step, target's step or None)`."""
        while not self.over:
            start = len(self.text)
            step, other = self.write("draft"), None
            if self.reads:
                self.forwards["target"] += 1
                self.seen["target"] = start + len(step[0]) - 1
                step = (*step[:2], under_target(self.text, step[0]))
            if self.compares:
                other = self.write("target")
            kept = keeps(self, step, other)
            self.kept, self.judged = self.kept + kept, self.judged + 1
            if kept or not self.rewrite:
                self.take(step, True)
                if self.compares:
                    self.seen["target"] = start - 1
                if not kept and not self.over:
                    self.take(self.write("target"), False)
                continue
            self.seen["draft"] = start - 1
            if self.reads:
                self.seen["target"] = start - 1
            self.take(other or self.write("target"), False)
        return self


def unsure(tau):
    return lambda row, step, other: 1 - np.exp(np.mean(step[2])) < tau


def better(tau):
    def keeps(row, step, other):
        past = row.text[len(row.prompt) :]
        return not reward(past + other[0]) - reward(past + step[0]) > tau

    return keeps


def rewarded(tau):
    return lambda row, step, other: reward(row.text[len(row.prompt) :] + step[0]) >= tau


def conformal(alpha, memory, calibration=()):
    own = []

    def keeps(row, step, other):
        score = np.exp(-np.mean(step[2]))
        known = [*calibration, *own[-memory:]]
        p = (1 + sum(a >= score for a in known)) / (len(known) + 1)
        own.append(score)
        return p > alpha

    return keeps


def decoded(decoder, params=PARAMS, **knobs):
    given = dict(lengths=LENGTHS, rng=KEY, max_new_tokens=BUDGET, eos=[EOS], temperature=0.9)
    return jaxdec.generate(decoder, params, PROMPTS, hypotheses=2, **given | knobs)


def twins(rule, values, **how):
    """The twins of all rows."""
    keys = sampling.row_keys(KEY, 8, 2)
    found = []
    for b in range(8):
        p = b // 2
        row = Twin(PROMPTS[p, : LENGTHS[p]].tolist(), int(BUDGET[p]), keys[b], **how)
        found.append(row.go(rule(values[p])))
    return found


def compare(result, rows):
    """Texts, records and costs are those of the twins."""
    for b, row in enumerate(rows):
        size, end = len(row.prompt), len(row.text)
        assert result.tokens[b, : result.lengths[b]].tolist() == row.text
        assert result.drafted[b, size:end].tolist() == row.drafted
        close = dict(rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(result.log_probs[b, size:end], row.log_probs, **close)
        np.testing.assert_allclose(result.raw_log_probs[b, size:end], row.raw, **close)
        stats = result.stats
        assert int(stats.target_forwards[b]) == row.forwards["target"]
        assert int(stats.draft_forwards[b]) == row.forwards["draft"]
        assert int(stats.accepted[b]) == sum(row.drafted)
    judged, kept = (sum(getattr(row, name) for row in rows) for name in ("judged", "kept"))
    assert 0 < kept < judged, "the gate is put to the test"


def test_arbitrage():
    """Mixed gates are those of the twin; at its limits one model writes everything, with the same draws."""
    decoder = search.arbitrage(MODEL, MODEL, segment=SEGMENT)
    taus = np.array([0.62, 0.5, 0.55, 0.7])
    compare(decoded(decoder, tau=taus), twins(unsure, taus))
    plain = jaxdec.autoregressive(MODEL)
    for who, tau, none in (("target", 0.0, "accepted"), ("draft", 1.001, "target_forwards")):
        alone = decoded(plain, {"target": PARAMS[who]})
        routed = decoded(decoder, tau=tau)
        np.testing.assert_array_equal(routed.tokens, alone.tokens)
        assert routed.status == alone.status
        assert (np.asarray(getattr(routed.stats, none)) == 0).all()


def test_the_oracle_takes_the_better_step():
    gate = gates.advantage(search.scorers.of_tokens(odd))
    decoder = search.step_routing(MODEL, MODEL, gate, segment=SEGMENT)
    taus = np.array([0.0, 0.1, -0.1, 0.0])
    compare(decoded(decoder, tau=taus), twins(better, taus, compares=True))


def test_atts():
    """With a calibration and a memory; at alpha 0 the target writes nothing, at 1 both take turns."""
    decoder = search.atts(MODEL, MODEL, segment=SEGMENT, calibration="scores", memory=2)
    params = {**PARAMS, "scores": CALIBRATION}
    alphas = np.array([0.4, 0.5, 0.3, 0.6])
    rule = lambda alpha: conformal(alpha, 2, CALIBRATION)
    how = dict(rewrite=False, reads=True)
    found, rows = decoded(decoder, params, alpha=alphas), twins(rule, alphas, **how)
    compare(found, rows)
    np.testing.assert_array_equal(found.pool.count, [row.judged for row in rows])
    drafted = decoded(decoder, params, alpha=0.0)
    new = np.arange(drafted.tokens.shape[1]) >= np.repeat(LENGTHS, 2)[:, None]
    new &= np.arange(drafted.tokens.shape[1]) < np.asarray(drafted.lengths)[:, None]
    assert (np.asarray(drafted.drafted) == new).all()
    both = decoded(decoder, params, alpha=1.0)
    for b, row in enumerate(twins(lambda _: lambda *_: False, alphas, **how)):
        assert both.tokens[b, : both.lengths[b]].tolist() == row.text


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["rewarded", "conformal"])
def test_other_gates(rule):
    if rule == "rewarded":
        gate = gates.rewarded(search.scorers.of_tokens(odd))
        values, given = np.array([0.5, 0.6, 0.3, 0.7]), "tau"
        rows = twins(rewarded, values)
    else:  # what was read is dropped again
        gate, given = gates.conformal(memory=3), "alpha"
        values = np.array([0.5, 0.4, 0.7, 0.6])
        rows = twins(lambda alpha: conformal(alpha, 3), values, reads=True)
    decoder = search.step_routing(MODEL, MODEL, gate, segment=SEGMENT)
    compare(decoded(decoder, **{given: values}), rows)


@pytest.mark.slow
def test_a_recurrent_model_drafts_where_nothing_is_dropped():
    recurrent, table = oracles.recurrent_oracle(VOCAB)
    decoder = search.atts(MODEL, recurrent, segment=SEGMENT)
    found = decoded(decoder, PARAMS | {"draft": table}, alpha=0.0)
    alone = decoded(jaxdec.autoregressive(recurrent), {"target": table})
    np.testing.assert_array_equal(found.tokens[:, :20], alone.tokens[:, :20])
    assert found.status == alone.status


@pytest.mark.slow
def test_a_population_of_routed_rows():
    """Whose segments are the steps: nothing changes, although all rows of a prompt wait where one has ended."""
    decoder = search.arbitrage(MODEL, MODEL, segment=SEGMENT)
    alone = decoded(decoder, tau=0.55)
    found = decoded(search.Population(decoder, SEGMENT, search.Independent()), tau=0.55)
    np.testing.assert_array_equal(found.tokens, alone.tokens)
    assert found.status == alone.status
    for name in ("target_forwards", "draft_forwards", "accepted"):
        one, other = (getattr(result.stats, name) for result in (found, alone))
        np.testing.assert_array_equal(one, other)


@dataclasses.dataclass(frozen=True)
class Counted:
    """A forward that counts how often it runs."""

    forward: object
    runs: list = dataclasses.field(hash=False, compare=False)

    def __call__(self, *arguments):
        jax.debug.callback(lambda: self.runs.append(1))
        return self.forward(*arguments)


@pytest.mark.slow
def test_a_model_that_no_row_needs_has_no_forward():
    runs = []
    target = dataclasses.replace(MODEL, forward=Counted(MODEL.forward, runs))
    decoder = search.arbitrage(target, MODEL, segment=SEGMENT)
    drafted = decoded(decoder, tau=1.001)
    jax.effects_barrier()
    assert len(runs) == 1, "the prompts"
    both = decoded(decoder, tau=0.0)
    jax.effects_barrier()
    most = int(np.max(both.stats.target_forwards))
    assert most < len(runs) - 2 < 3 * most
    assert int(np.max(drafted.stats.target_forwards)) == 0


def test_p_values_are_valid():
    """Of n + 1 exchangeable scores, all orders of them: exact without ties, never more than alpha with some."""
    for scores in ([1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 2.0, 3.0, 3.0], [1.0] * 5):
        orders = np.array(list(itertools.permutations(scores)), np.float32)
        found = gates.p_value(orders[:, 0], orders[:, 1:], np.ones((120, 4), bool))
        for alpha in (0.0, 0.1, 0.2, 0.39, 0.4, 0.6, 0.8, 0.99, 1.0):
            share = float(np.mean(np.asarray(found) <= np.float32(alpha)))
            assert share <= alpha + 1e-6
            if len(set(scores)) == 5:
                assert share == pytest.approx(np.floor(alpha * 5 + 1e-9) / 5)
    draws = np.random.default_rng(0).gumbel(size=(20000, 20)).astype(np.float32)
    found = gates.p_value(draws[:, 0], draws[:, 1:], np.ones((20000, 19), bool))
    for alpha in (0.1, 0.4, 0.75):
        share = np.mean(np.asarray(found) <= np.float32(alpha))
        assert abs(share - alpha) < 4 * np.sqrt(alpha * (1 - alpha) / 20000)


def test_a_ring_of_scores():
    scores = gates.SegmentScores(jnp.zeros((1, 3)), jnp.zeros((1,), jnp.int32))
    for value in range(1, 6):
        scores = scores.add(jnp.asarray([float(value)]))
    assert sorted(scores.values[0].tolist()) == [3, 4, 5] and scores.count.tolist() == [5]


def test_refusals():
    route = lambda **more: search.arbitrage(MODEL, MODEL, **{"segment": SEGMENT, **more})
    with pytest.raises(ValueError, match=r"segments need a bound.*got most=None"):
        route(segment=search.until([LINE]))
    wide, _ = oracles.hash_oracle(VOCAB + 1)
    with pytest.raises(ValueError, match="vocabulary of 7, the target one of 6"):
        search.arbitrage(MODEL, wide, segment=SEGMENT)
    by_state = search.scorers.of_hidden(lambda params, hidden: hidden[:, 0])
    with pytest.raises(ValueError, match="OfHidden reads states"):
        gates.advantage(by_state)
    oracle = gates.advantage(search.scorers.of_tokens(odd))
    with pytest.raises(ValueError, match="it needs rewrite=True"):
        search.step_routing(MODEL, MODEL, oracle, segment=SEGMENT, rewrite=False)
    with pytest.raises(ValueError, match="memory is at least 1; got None and 0"):
        gates.conformal(memory=0)
    with pytest.raises(ValueError, match="'reward'"):
        decoded(route(router=by_state))
    recurrent, table = oracles.recurrent_oracle(VOCAB)
    with pytest.raises(ValueError, match="segments of the draft model are dropped: a recurrent"):
        decoded(search.arbitrage(MODEL, recurrent, segment=SEGMENT), PARAMS | {"draft": table})
    calibrated = search.atts(MODEL, MODEL, segment=SEGMENT, calibration="scores")
    for scores, message in (
        (np.zeros((2, 2)), r"scores must be scores \[n\], at least one, got \[2, 2\]"),
        (np.array([1.0, np.nan]), "scores holds scores that are not numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            decoded(calibrated, {**PARAMS, "scores": scores})
