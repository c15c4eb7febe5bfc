"""The canvas loop ends whatever its parts do: a step commits the surest position, or ends the row."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec import decoding, diffusion, generation
from jaxdec.decoding import Status
from jaxdec.diffusion import denoise, schedules, unmask
from tests.diffusion.canvases import BUDGET, LENGTHS, PROMPTS, decode, forwards, oracle, same

pytestmark = pytest.mark.usefixtures("quick_compilation")
LONGEST = int(BUDGET.max())


def bounded(decoder, steps):
    """Decodes in `steps` steps at most, so that a loop without end fails rather than hangs."""
    _, params = oracle()
    request = generation.prepare(
        decoder, {"target": params}, PROMPTS, lengths=LENGTHS, max_new_tokens=BUDGET, eos=()
    )
    state = decoding.init(decoder, {"target": params}, request)
    keys = jax.random.key(7)
    return generation.result(*decoding.run(decoder, {"target": params}, state, keys, steps))


@dataclasses.dataclass(frozen=True)
class Nothing(diffusion.Unmask):
    """Commits nothing."""

    def choose(self, params, seen, state, knobs):
        return jnp.zeros_like(seen.allowed), state


@dataclasses.dataclass(frozen=True)
class NoNumbers(diffusion.Unmask):
    """Compares scores that are no numbers."""

    def choose(self, params, seen, state, knobs):
        return seen.scored.logits.max(-1) * jnp.nan > 0, state


@dataclasses.dataclass(frozen=True)
class Elsewhere(diffusion.Unmask):
    """Commits what may not be committed."""

    def choose(self, params, seen, state, knobs):
        return ~seen.allowed, state


@dataclasses.dataclass(frozen=True)
class Waiting(diffusion.Unmask):
    """Commits nothing, but says that it takes some steps for that."""

    def choose(self, params, seen, state, knobs):
        return jnp.zeros_like(seen.allowed), state

    def patience(self, params, seen, knobs):
        return jnp.full_like(seen.step, 5)


@pytest.mark.parametrize("branches", [1, 3])
@pytest.mark.parametrize(
    "policy", [Nothing(), NoNumbers(), Elsewhere()], ids=lambda p: type(p).__name__
)
def test_a_policy_that_commits_nothing_commits_the_surest(policy, branches):
    model, params = oracle()
    plain = decode(denoise(model, unmask=unmask.quota("max_prob")), {"target": params})
    found = bounded(denoise(model, unmask=policy, branches=branches), LONGEST)
    same(plain, found)


def test_a_policy_that_waits_does_so_once_a_group():
    blocks = schedules.blocks(8)
    found = bounded(denoise(oracle()[0], unmask=Waiting(), schedule=blocks), 9 * LONGEST)
    assert found.status == [Status.LENGTH] * 3
    assert forwards(found) == (BUDGET + 5 * -(-BUDGET // 8)).tolist()


@dataclasses.dataclass(frozen=True)
class Everything(diffusion.Remask):
    """Takes back all that is committed."""

    def take_back(self, params, seen, reveal, state, knobs):
        return jnp.ones_like(reveal), state


@dataclasses.dataclass(frozen=True)
class AsMany(diffusion.Remask):
    """Takes back as many tokens as were committed."""

    def take_back(self, params, seen, reveal, state, knobs):
        count = reveal.sum(-1)
        return diffusion.top(-seen.score("max_prob"), seen.committed | reveal, count), state


@dataclasses.dataclass(frozen=True)
class AtOnce(Everything):
    """The same, without the time that a group has for it."""

    def patience(self, params, seen, knobs):
        return jnp.zeros_like(seen.step)


@pytest.mark.parametrize("rule", [Everything(), AsMany()], ids=lambda rule: type(rule).__name__)
def test_a_rule_that_takes_everything_back_ends(rule):
    decoder = denoise(oracle()[0], unmask=unmask.left_to_right(), remask=rule)
    found = bounded(decoder, 9 * LONGEST)
    assert found.status == [Status.LENGTH] * 3
    assert np.asarray(found.lengths).tolist() == (LENGTHS + BUDGET).tolist()
    assert forwards(found) == (2 * BUDGET).tolist()  # as long as it may, then a token a step


def test_a_rule_without_patience_takes_nothing_back_that_stops_the_group():
    found = bounded(denoise(oracle()[0], unmask=unmask.left_to_right(), remask=AtOnce()), 200)
    assert forwards(found) == BUDGET.tolist()


@dataclasses.dataclass(frozen=True)
class TooNarrow(schedules.Blocks):
    """Says that its groups are smaller than they are."""

    def largest(self, room):
        return self.size - 3, self.size


def test_a_group_that_is_larger_than_the_schedule_says_ends_its_row():
    found = bounded(denoise(oracle()[0], schedule=TooNarrow(8)), 9 * LONGEST)
    assert found.status == [Status.STALLED] * 3
    assert np.asarray(found.lengths).tolist() == (LENGTHS + 5).tolist()
