"""Cache rules and branches on a transformer: what is read back must be what would have been computed."""

import pytest

import jaxdec
from jaxdec import diffusion
from jaxdec.diffusion import denoise, refresh, schedules, unmask
from tests.diffusion.canvases import BUDGET, decode, forwards, oracle, same, texts, transformer

pytestmark = pytest.mark.usefixtures("quick_compilation")
FULL = dict(schedule=schedules.blocks(8))
CAUSAL = dict(schedule=schedules.blocks(8, from_start=True), attention="causal")
AFTER_PROMPT = dict(schedule=schedules.blocks(8), attention="causal")
NESTED = dict(schedule=schedules.blocks(4, within=8, from_start=True), attention="causal")
POLICY = unmask.threshold(0.3)


def run(setting, rule, *, branches=1, policy=POLICY, **options):
    model, params = transformer()
    decoder = denoise(model, unmask=policy, refresh=rule, branches=branches, **setting)
    return decode(decoder, {"target": params}, **{"temperature": 0.9, **options})


@pytest.mark.parametrize(
    "setting", [CAUSAL, AFTER_PROMPT, NESTED], ids=["start", "prompt", "nested"]
)
def test_the_block_cache_is_exact(setting):
    plain, cached = run(setting, refresh.none()), run(setting, refresh.block())
    same(plain, cached)
    assert forwards(plain) == forwards(cached) and min(forwards(plain)) > 1
    rows = lambda result: int(result.stats.target_rows.sum())
    assert 2 * rows(cached) < rows(plain)


@pytest.mark.parametrize(
    ("setting", "rule"),
    [
        (FULL, refresh.prefix()),
        (FULL, refresh.dual()),
        (FULL, refresh.frozen()),
        (CAUSAL, refresh.dual()),
        (NESTED, refresh.sub_block()),
    ],
    ids=["prefix", "dual", "frozen", "causal dual", "sub-block"],
)
def test_an_approximate_cache_with_period_one_is_no_cache(setting, rule):
    plain = run(setting, refresh.none())
    same(plain, run(setting, rule, refresh_period=1))
    kept = run(setting, rule)
    assert int(kept.stats.target_rows.sum()) < int(plain.stats.target_rows.sum())


@pytest.mark.parametrize("rule", [refresh.prefix(), refresh.dual(), refresh.frozen()])
def test_an_approximate_cache_is_read(rule):
    # On a full canvas every entry changes with every token: what is kept must show somewhere.
    plain, kept = run(FULL, refresh.none()), run(FULL, rule)
    assert texts(plain) != texts(kept) or abs(plain.log_probs - kept.log_probs).max() > 1e-4


@pytest.mark.parametrize(
    ("setting", "rule"),
    [
        (FULL, refresh.none()),
        pytest.param(FULL, refresh.dual(), marks=pytest.mark.slow),
        pytest.param(CAUSAL, refresh.none(), marks=pytest.mark.slow),
        (CAUSAL, refresh.block()),
        pytest.param(NESTED, refresh.sub_block(), marks=pytest.mark.slow),
    ],
    ids=["none", "dual", "causal", "block", "sub-block"],
)
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_branches_change_nothing_but_the_number_of_forwards(setting, rule, temperature):
    """FreeDave: the static decoding of the same policy, token for token, greedy and sampled."""
    for policy in (unmask.quota("max_prob"),):
        static = run(setting, rule, policy=policy, temperature=temperature)
        branched = run(setting, rule, policy=policy, temperature=temperature, branches=3)
        same(static, branched)
        assert forwards(static) == BUDGET.tolist()
        assert sum(forwards(branched)) < 0.9 * sum(forwards(static))


@pytest.mark.parametrize(
    "options",
    [
        dict(unmask=unmask.quota("entropy", steps=8)),
        dict(unmask=unmask.threshold(0.5)),
        *(
            pytest.param(options, marks=pytest.mark.slow)
            for options in (
                dict(unmask=unmask.dynamic_threshold(0.6)),
                dict(unmask=unmask.threshold(0.5), fuse=diffusion.credit()),
                dict(unmask=unmask.saber(), remask=diffusion.backtracking()),
                dict(unmask=unmask.quota("random", position_temperature=0.5)),
            )
        ),
    ],
    ids=["quota", "threshold", "dynamic", "credit", "saber", "jitter"],
)
def test_branches_reproduce_every_policy(options):
    model, params = oracle(True)
    static, branched = (
        decode(denoise(model, branches=n, **FULL, **options), {"target": params}, temperature=0.7)
        for n in (1, 4)
    )
    same(static, branched)
    assert sum(forwards(branched)) <= sum(forwards(static))


def test_next_token_speculates():
    """A canvas model as a causal target: trees, caches and all."""
    model, params = transformer()
    causal = diffusion.next_token(model)
    plain = decode(jaxdec.autoregressive(causal), {"target": params}, temperature=0.8)
    drafter = jaxdec.drafters.prompt_lookup(length=4)
    fast = decode(jaxdec.speculative(causal, drafter=drafter), {"target": params}, temperature=0.8)
    same(plain, fast, steps=False)
