"""The conformance battery for canvas decoding, and a list of combinations that covers every pair of parts."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from jaxdec import catalogue, diffusion
from jaxdec.decoding import Status
from jaxdec.diffusion import denoise, refresh, schedules, unmask
from jaxdec.sampling import row_keys
from jaxdec.testing import battery
from tests.diffusion.canvases import BUDGET, LENGTHS, PROMPTS, decode, oracle, texts
from tests.diffusion.test_own_parameters import LinearHead

pytestmark = pytest.mark.usefixtures("quick_compilation")


@dataclasses.dataclass(frozen=True)
class DraftHead(LinearHead):
    """A policy with weights: the battery supplies those of a drafter."""

    name: str = "draft"

    def score(self, params, seen):
        return super().score(params[: seen.scored.hidden.shape[-1]], seen)


DECODERS = {
    "weights": lambda model, _: denoise(
        model, unmask=DraftHead(), schedule=schedules.blocks(8), refresh=refresh.dual()
    ),
    "left to right": lambda model, _: denoise(model, unmask=unmask.left_to_right()),
    "threshold": lambda model, _: denoise(
        model,
        unmask=unmask.threshold(0.6),
        schedule=schedules.blocks(8),
        refresh=refresh.dual(),
    ),
    "freedave": lambda model, _: denoise(
        model,
        unmask=unmask.left_to_right(),
        schedule=schedules.blocks(8, from_start=True),
        attention="causal",
        refresh=refresh.block(),
        branches=3,
    ),
}


@pytest.mark.parametrize("name", DECODERS)
def test_battery(name):
    battery.check(DECODERS[name], checks=battery.PARTS)


@pytest.mark.parametrize("name", catalogue.DENOISING)
def test_the_catalogue_declares_what_decoders_declare(name):
    method = catalogue.METHODS[name]
    for parts in (
        catalogue.Parts(oracle()[0]),
        catalogue.Parts(oracle(True)[0], block=8, refresh="dual"),
        catalogue.Parts(oracle(True)[0], block=8, causal=True, refresh="sub-block"),
    ):
        decoder = method.make(parts)
        if decoder.refresh.exact:
            assert decoder.exactness is method.exactness
        assert decoder == method.make(parts)


SCHEDULES = {
    "whole": dict(schedule=schedules.whole()),
    "blocks": dict(schedule=schedules.blocks(8)),
    "partition": dict(schedule=schedules.partition(np.arange(30) * 7 % 30 // 4)),
    "causal": dict(schedule=schedules.blocks(8, from_start=True), attention="causal"),
    "nested": dict(
        schedule=schedules.blocks(4, within=8, from_start=True), attention="causal", branches=2
    ),
}
POLICIES = {
    "quota": dict(unmask=unmask.quota("margin", steps=4, spread="cosine")),
    "jitter": dict(unmask=unmask.quota("entropy", position_temperature=0.3)),
    "random": dict(unmask=unmask.first_hitting()),
    "ancestral": dict(unmask=unmask.ancestral(4)),
    "threshold": dict(unmask=unmask.threshold(0.6, by="token_prob")),
    "factor": dict(unmask=unmask.factor(1.5)),
    "dynamic": dict(unmask=unmask.dynamic_threshold(0.7, steps=4)),
    "entropy bound": dict(unmask=unmask.entropy_bound(0.8)),
    "credit": dict(unmask=unmask.threshold(0.6), fuse=diffusion.credit()),
    "prophet": dict(unmask=unmask.quota(), stop=diffusion.prophet(2.0, 1.5, 1.0)),
    "saber": dict(unmask=unmask.saber(), remask=diffusion.backtracking()),
}
REFRESH_RULES = {
    "none": refresh.none(),
    "prefix": refresh.prefix(3),
    "dual": refresh.dual(),
    "frozen": refresh.frozen(),
    "block": refresh.block(),
    "sub-block": refresh.sub_block(2),
}


def possible(schedule, cache):
    return not REFRESH_RULES[cache].needs_blocks or "attention" in SCHEDULES[schedule]


def covering():
    """Combinations that hold every possible pair of values, chosen greedily."""
    combinations = [
        c for c in itertools.product(SCHEDULES, POLICIES, REFRESH_RULES) if possible(c[0], c[2])
    ]
    pairs = lambda c: {(i, c[i], j, c[j]) for i, j in itertools.combinations(range(3), 2)}
    left, chosen = set().union(*map(pairs, combinations)), []
    while left:
        best = max(combinations, key=lambda c: len(pairs(c) & left))
        chosen.append(best)
        left -= pairs(best)
    return chosen


def test_the_list_covers_every_possible_pair():
    found = covering()
    for schedule, policy in itertools.product(SCHEDULES, POLICIES):
        assert any(c[:2] == (schedule, policy) for c in found)
    for policy, cache in itertools.product(POLICIES, REFRESH_RULES):
        assert any(c[1:] == (policy, cache) for c in found)
    for schedule, cache in itertools.product(SCHEDULES, REFRESH_RULES):
        assert any(c[::2] == (schedule, cache) for c in found) == possible(schedule, cache)


def check_combination(combination):
    """Jitted, ragged, compiled once, and each row as if it were alone."""
    schedule, policy, cache = combination
    model, params = oracle(canvas=True)
    decoder = denoise(
        model, refresh=REFRESH_RULES[cache], **SCHEDULES[schedule], **POLICIES[policy]
    )
    counted = battery.Counted(decoder)
    keys = row_keys(jax.random.key(7), 3)
    temperature = np.array([0.0, 0.7, 1.0])
    whole = decode(counted, params, rng=keys, temperature=temperature)
    assert whole.status == [Status.LENGTH] * 3
    assert np.asarray(whole.lengths).tolist() == (LENGTHS + BUDGET).tolist()
    for row in range(3):
        # Its neighbours' prompts, budgets, keys and settings change, and its own place in the batch.
        turn = lambda x: np.roll(np.asarray(x), 1, axis=0)
        others = np.arange(3) != row
        alone = decode(
            counted,
            params,
            prompt=turn(np.where(others[:, None], 3, PROMPTS)),
            lengths=turn(np.where(others, 2, LENGTHS)),
            max_new_tokens=turn(np.where(others, 0, BUDGET)),
            rng=keys[np.roll(np.arange(3), 1)],
            temperature=turn(temperature),
        )
        place = (row + 1) % 3
        assert texts(alone)[place] == texts(whole)[row], f"row {row}"
        for name in ("target_forwards", "target_rows", "accepted"):
            one, many = getattr(alone.stats, name)[place], getattr(whole.stats, name)[row]
            assert int(one) == int(many), f"row {row}: {name} {one} alone, {many} in a batch"
    assert counted.traced[0] == 1


COVERING = covering()
SELECTED = COVERING[::8]


@pytest.mark.parametrize("combination", SELECTED, ids="-".join)
def test_combinations(combination):
    check_combination(combination)


@pytest.mark.slow
@pytest.mark.parametrize("combination", [c for c in COVERING if c not in SELECTED], ids="-".join)
def test_all_combinations(combination):
    check_combination(combination)
