"""Parts of the canvas loop with weights: each is handed its own, under its name, and sees hidden states."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec import diffusion
from jaxdec.diffusion import denoise, refresh, schedules, top, unmask
from tests.diffusion.canvases import BUDGET, VOCAB, decode, oracle, same, texts, transformer

pytestmark = pytest.mark.usefixtures("quick_compilation")


@dataclasses.dataclass(frozen=True)
class LinearHead(diffusion.Unmask):
    """Commits the position of the highest score `max softmax(h W)`, h the hidden state there and W its own."""

    name: str = "head"

    def choose(self, params, seen, state, knobs):
        return top(self.score(params, seen), seen.allowed, jnp.ones_like(seen.step)), state

    def ahead(self, params, seen, knobs):
        return self.score(params, seen), jnp.ones_like(seen.step)

    def score(self, params, seen):
        return jax.nn.softmax(seen.scored.hidden @ params, axis=-1).max(-1)


@dataclasses.dataclass(frozen=True)
class LayerHead(LinearHead):
    """The same from the state after the last layer, before its norm."""

    def score(self, params, seen):
        (state,) = seen.scored.layer_states
        state = state * jax.lax.rsqrt((state**2).mean(-1, keepdims=True) + 1e-5)
        return jax.nn.softmax(state @ params, axis=-1).max(-1)


def output_matrix(params):
    """`[D, V]`, of all tokens but the mask."""
    return jax.tree.leaves(params["embed_tokens"])[0].T[:, :VOCAB]


SETTINGS = {
    "plain": dict(),
    "dual": dict(schedule=schedules.blocks(8), refresh=refresh.dual()),
    "branches": dict(
        schedule=schedules.blocks(8, from_start=True),
        attention="causal",
        refresh=refresh.block(),
        branches=3,
    ),
}


@pytest.mark.parametrize(
    "setting", [pytest.param("plain", marks=pytest.mark.slow), "dual", "branches"]
)
def test_a_policy_sees_the_hidden_states_of_its_positions(setting):
    """A head that is the model's own output matrix scores as the model does, position for position."""
    model, params = transformer()
    given = {"target": params, "head": output_matrix(params)}
    options = dict(temperature=0.8)
    plain = denoise(model, unmask=unmask.quota("max_prob"), **SETTINGS[setting])
    learned = denoise(model, unmask=LinearHead(), **SETTINGS[setting])
    found = decode(learned, given, **options)
    same(decode(plain, given, **options), found)
    other = decode(learned, {**given, "head": -given["head"]}, **options)
    assert texts(other) != texts(found)


def test_a_policy_sees_the_layer_states_of_its_positions():
    """The state after the last layer, under its norm and the model's own output matrix, scores as the model does."""
    model, params = transformer(layer_states=(2,))
    given = {"target": params, "head": output_matrix(params)}
    found, expected = (
        decode(denoise(model, unmask=head, **SETTINGS["branches"]), given, temperature=0.8)
        for head in (LayerHead(), LinearHead())
    )
    same(expected, found)


def test_a_policy_without_its_parameters():
    model, params = transformer()
    with pytest.raises(ValueError, match=r"with 'target', 'head'; got dict with 'target'"):
        decode(denoise(model, unmask=LinearHead()), {"target": params})


@dataclasses.dataclass(frozen=True)
class Bias(diffusion.Fuse):
    """Adds its weights `[V]` to the logits."""

    name: str = "bias"

    def fuse(self, params, scored, standing, state, knobs):
        return scored.logits + params, state


@dataclasses.dataclass(frozen=True)
class SureEnough(diffusion.Stop):
    """Commits everything once the hidden states are as large as its weight, twice in a row."""

    name: str = "limit"

    def init(self, params, batch, window):
        return jnp.zeros((batch,), bool)

    def now(self, params, seen, state, knobs):
        large = jnp.abs(seen.scored.hidden).max((1, 2)) > params
        return large & state, large


@dataclasses.dataclass(frozen=True)
class TakeBack(diffusion.Remask):
    """Takes back the places that its weights name, in the group's second step."""

    name: str = "back"

    def take_back(self, params, seen, reveal, state, knobs):
        named = params[seen.places] & (seen.step == 1)[:, None]
        return named & (seen.committed | reveal), state


@dataclasses.dataclass(frozen=True)
class LearnedOrder(schedules.Partition):
    """The groups that its weights say; no more than the table has."""

    name: str = "order"

    def assign(self, params, prompt, length):
        places = jnp.arange(length) - prompt[:, None]
        groups = jnp.where(places >= 0, params[jnp.clip(places, 0, len(params) - 1)], -1)
        return groups, groups


@dataclasses.dataclass(frozen=True)
class Sometimes(refresh.Dual):
    """Refreshes every step or never, as its weight says."""

    name: str = "sometimes"

    def due(self, params, status):
        return status.entered | params


def test_every_kind_of_part_has_its_own_parameters():
    """Weights that do nothing give the plain decoder; each other weight changes what its part is for."""
    model, params = transformer()
    table = tuple((np.arange(BUDGET.max()) // 8).tolist())
    plain = denoise(
        model,
        unmask=unmask.quota("max_prob"),
        schedule=schedules.partition(table),
        refresh=refresh.dual(),
    )
    learned = denoise(
        model,
        unmask=LinearHead(),
        fuse=Bias(),
        stop=SureEnough(),
        remask=TakeBack(),
        schedule=LearnedOrder(table),
        refresh=Sometimes(),
    )
    none = {
        "target": params,
        "head": output_matrix(params),
        "bias": jnp.zeros(VOCAB + 1),
        "limit": jnp.float32(jnp.inf),
        "back": jnp.zeros(64, bool),
        "order": jnp.asarray(table),
        "sometimes": jnp.asarray(False),
    }
    read = lambda found: (texts(found), np.asarray(found.steps).tolist(), found.stats.target_rows)
    run = lambda **given: decode(learned, {**none, **given}, temperature=0.0)
    neutral = run()
    same(decode(plain, none, temperature=0.0), neutral)
    changed = {
        "head": -none["head"],
        "bias": jnp.zeros(VOCAB + 1).at[2].set(9.0),
        "limit": jnp.float32(0.0),
        "back": jnp.ones(64, bool),
        "order": none["order"][::-1],
    }
    for name, weight in changed.items():
        assert read(run(**{name: weight}))[:2] != read(neutral)[:2], name
    often = run(sometimes=jnp.asarray(True))
    assert (often.stats.target_rows > neutral.stats.target_rows).all()


def test_weights_of_one_kind_stand_side_by_side():
    model, params = oracle()
    one, two = denoise(model, unmask=LinearHead("one")), denoise(model, unmask=LinearHead("two"))
    assert one != two
    ask = lambda token: jax.nn.one_hot(jnp.arange(VOCAB), VOCAB) * (jnp.arange(VOCAB) == token)
    given = {"target": params, "one": ask(1), "two": ask(2)}
    assert texts(decode(one, given)) == texts(decode(two, {**given, "two": ask(1)}))
    assert texts(decode(one, given)) != texts(decode(two, given))
