"""Combinations of schedules, policies and refresh rules, so that every pair of parts is decoded with."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from jaxdec import catalogue
from jaxdec.decoding import Status
from jaxdec.diffusion import denoise, refresh, schedules
from jaxdec.sampling import row_keys
from jaxdec.testing import battery
from jaxdec.testing.heads import position_head
from tests.diffusion.canvases import BUDGET, LENGTHS, PROMPTS, decode, oracle, texts
from tests.diffusion.test_own_parameters import LinearHead

pytestmark = pytest.mark.usefixtures("quick_compilation")


@dataclasses.dataclass(frozen=True)
class DraftHead(LinearHead):
    """A policy with weights: the battery supplies those of a drafter."""

    name: str = "draft"

    def score(self, params, seen):
        return super().score(params[: seen.scored.hidden.shape[-1]], seen)


def test_a_policy_with_weights():
    battery.check(
        lambda model, _: denoise(
            model, unmask=DraftHead(), schedule=schedules.blocks(8), refresh=refresh.dual()
        ),
        checks=battery.PARTS,
    )


@pytest.mark.parametrize("name", catalogue.DENOISING)
def test_the_catalogue_declares_what_decoders_declare(name):
    method = catalogue.METHODS[name]
    for parts in (
        catalogue.Parts(oracle()[0], oracle()[0]),
        catalogue.Parts(oracle(True)[0], oracle()[0], block=8, refresh="dual"),
        catalogue.Parts(oracle(True)[0], oracle()[0], block=8, causal=True, refresh="sub-block"),
    ):
        if name == "adjust":  # goes on from states of masks
            parts = dataclasses.replace(parts, target=oracle(True)[0], draft=oracle(True)[0])
        if method.heads in ("unmasking", "finality"):
            parts = dataclasses.replace(parts, draft=position_head(method.heads)[0])
        alone = {
            "daedal": "moves tokens",
            "learn2pd": "moves the end of the canvas",
            "window-diffusion": "has a cache of its own",
        }
        if name in alone and parts.refresh != "none":
            with pytest.raises(ValueError, match=f"'{name}' {alone[name]}"):
                method.make(parts)
            continue
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
    name: sample
    for method in catalogue.DENOISING
    # The policy of one with a second model is that of another row.
    if not (catalogue.METHODS[method].draft or catalogue.METHODS[method].heads)
    for name, sample in catalogue.METHODS[method].samples.items()
}
REFRESH_RULES = catalogue.REFRESH_RULES | {"prefix": lambda: refresh.prefix(3)}


def possible(schedule, cache):
    return not REFRESH_RULES[cache]().needs_blocks or "attention" in SCHEDULES[schedule]


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
    parts, _ = battery.built(POLICIES[policy], model)
    decoder = denoise(
        model,
        refresh=REFRESH_RULES[cache](),
        **{part: getattr(parts, part) for part in ("unmask", "remask", "fuse", "stop")},
        **SCHEDULES[schedule],
    )
    counted = battery.Counted(decoder)
    keys = row_keys(jax.random.key(7), 3)
    temperature = np.array([0.0, 0.7, 1.0])
    whole = decode(counted, {"target": params}, rng=keys, temperature=temperature)
    assert whole.status == [Status.LENGTH] * 3
    assert np.asarray(whole.lengths).tolist() == (LENGTHS + BUDGET).tolist()
    for row in range(3):
        # Its neighbours' prompts, budgets, keys and settings change, and its own place in the batch.
        turn = lambda x: np.roll(np.asarray(x), 1, axis=0)
        others = np.arange(3) != row
        alone = decode(
            counted,
            {"target": params},
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
SELECTED = COVERING[::12]


@pytest.mark.parametrize("combination", SELECTED, ids="-".join)
def test_combinations(combination):
    check_combination(combination)


@pytest.mark.slow
@pytest.mark.parametrize("combination", [c for c in COVERING if c not in SELECTED], ids="-".join)
def test_all_combinations(combination):
    check_combination(combination)
