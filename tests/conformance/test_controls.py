"""Negative controls: decoders with a known fault, each of which the battery must catch."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

import jaxdec
from jaxdec import testing
from jaxdec.sampling import uniform
from jaxdec.speculative import Speculative, growth
from jaxdec.speculative.drafters import ModelDrafter
from jaxdec.speculative.verifiers import (
    BlockVerification,
    SharedNoiseWalk,
    TokenRatio,
    first_failure,
    residual,
)
from jaxdec.speculative.verifiers import (
    law as laws,
)
from jaxdec.testing import battery


@dataclasses.dataclass(frozen=True)
class ArgmaxDrafter(ModelDrafter):
    """Proposes the argmax of the draft law and claims to have drawn from it."""

    def propose(self, params, state, context):
        noiseless = dataclasses.replace(context, noise=jnp.zeros_like(context.noise))
        return super().propose(params, state, noiseless)


@dataclasses.dataclass(frozen=True)
class OneUniform(TokenRatio):
    """Uses one uniform for all tests of a round."""

    def verify(self, *given):
        first = lambda keys: jnp.broadcast_to(keys[:, :1], keys.shape)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(laws, "uniform", lambda keys: uniform(first(keys)))
            return super().verify(*given)


@dataclasses.dataclass(frozen=True)
class BonusFromResidual(TokenRatio):
    """Draws the bonus token from a residual, as a clamped index does."""

    def law(self, p, q, tree):
        closing = residual(p, jnp.concatenate([q, q[:, -1:]], axis=1))
        return dataclasses.replace(super().law(p, q, tree), closing=closing)


@dataclasses.dataclass(frozen=True)
class ContiguousBlock(BlockVerification):
    """Block verification that stops at the first failure instead of the last success."""

    def last(self, passed, tree):
        return first_failure(passed)


@dataclasses.dataclass(frozen=True)
class NoiseOfTheRound(SharedNoiseWalk):
    """Draws with noise keyed by the round instead of the position."""

    shares_noise: bool = False


@dataclasses.dataclass(frozen=True)
class BatchMinimum(SharedNoiseWalk):
    """Advances every row by the least acceptance in the batch."""

    def verify(self, params, tree, scored, log_probs, context):
        verdict = super().verify(params, tree, scored, log_probs, context)
        count = jnp.where(context.rows.running, verdict.count, tree.depth).min()
        count = jnp.minimum(verdict.count, count)
        along = jnp.take_along_axis(
            tree.tokens, jnp.minimum(count, tree.depth - 1)[:, None], axis=1
        )
        token = jnp.where(count < verdict.count, along[:, 0], verdict.next_token)
        return dataclasses.replace(verdict, count=count, next_token=token)


@dataclasses.dataclass(frozen=True)
class StaleDraftInCache(Speculative):
    """Commits one draft more than was accepted."""

    def step(self, params, state, rng):
        after, info = super().step(params, state, rng)
        last = after.rows.length[:, None] - 1

        def seen(spans):
            starts, stops = spans[..., 0], spans[..., 1]
            starts = jnp.where(starts > 2**29, last, starts)
            return jnp.stack([starts, jnp.where(stops < 0, 2**30, stops)], axis=-1)

        return dataclasses.replace(after, cache=after.cache.renumber(seen)), info


@dataclasses.dataclass(frozen=True)
class LateStops(Speculative):
    """Looks for stop sequences only at the end of a chunk."""

    def step(self, params, state, rng):
        stops = state.settings.stops
        blind = dataclasses.replace(stops, lengths=jnp.full_like(stops.lengths, 2**20))
        settings = dataclasses.replace(state.settings, stops=blind)
        after, info = super().step(params, dataclasses.replace(state, settings=settings), rng)
        width = stops.sequences.shape[1]
        if width:
            tail = after.rows.window(after.rows.length - width, width)
            hit = (tail[:, None] == stops.sequences).all(-1).any(-1) & after.rows.running
            status = jnp.where(hit, int(jaxdec.Status.STOP_SEQUENCE), after.rows.status)
            after = dataclasses.replace(after, rows=dataclasses.replace(after.rows, status=status))
        return dataclasses.replace(after, settings=state.settings), info


@dataclasses.dataclass(frozen=True)
class StringsOfAChunk(Speculative):
    """Looks for stop strings inside of each chunk alone."""

    def step(self, params, state, rng):
        rows = dataclasses.replace(state.rows, stop_state=state.settings.stop_state)
        return super().step(params, dataclasses.replace(state, rows=rows), rng)


@dataclasses.dataclass(frozen=True)
class OtherWarp(Speculative):
    """Leaves the truncating filters of the warp out of drafting and verification."""

    def step(self, params, state, rng):
        warp = dataclasses.replace(state.settings.warp, top_k=None, top_p=None, min_p=None)
        settings = dataclasses.replace(state.settings, warp=warp)
        after, info = super().step(params, dataclasses.replace(state, settings=settings), rng)
        return dataclasses.replace(after, settings=state.settings), info


@dataclasses.dataclass(frozen=True)
class KeysOfTheBatch(Speculative):
    """Folds the batch size into every key."""

    def step(self, params, state, rng):
        fold = jax.vmap(lambda key: jax.random.fold_in(key, rng.shape[0]))
        return super().step(params, state, fold(rng))


@dataclasses.dataclass(frozen=True)
class Undeclared(Speculative):
    """Promises nothing."""

    exactness = None


class Unequal(Speculative):
    """Is compiled anew for every decoder of the same parts."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__


@dataclasses.dataclass(frozen=True)
class OneKey(Speculative):
    """Draws by a key of its own."""

    def step(self, params, state, rng):
        return super().step(params, state, jax.random.split(jax.random.key(0), rng.shape[0]))


@dataclasses.dataclass(frozen=True)
class HealedLaws(Speculative):
    """Decodes on where the model's law is not finite."""

    def step(self, params, state, rng):
        return super().step(jax.tree.map(jnp.nan_to_num, params), state, rng)


@dataclasses.dataclass(frozen=True)
class ForwardsOfEndedRows(Speculative):
    """Counts forwards of rows that have ended."""

    def step(self, params, state, rng):
        after, info = super().step(params, state, rng)
        forwards = jnp.ones_like(info.target_forwards)
        return after, dataclasses.replace(info, target_forwards=forwards)


def check_law(subject):
    """By a fifth of the draws: what they show, all of them would."""
    battery.check_law(subject, draws=20_000)


def verified_by(verifier, drafter=ModelDrafter, length=3):
    return lambda target, draft: Speculative(target, drafter(draft, growth.chain(length)), verifier)


def stepped_by(decoder):
    return lambda target, draft: decoder(
        target, ModelDrafter(draft, growth.chain(3)), SharedNoiseWalk()
    )


FAULTS = {
    "argmax draft with soft q": (check_law, verified_by(TokenRatio(), ArgmaxDrafter)),
    "one uniform for all tests": (check_law, verified_by(OneUniform())),
    "bonus from a residual": (check_law, verified_by(BonusFromResidual(), length=2)),
    "block verification as a contiguous scan": (check_law, verified_by(ContiguousBlock())),
    "warp in one place only": (battery.check_identity, stepped_by(OtherWarp)),
    "noise of the round": (battery.check_identity, verified_by(NoiseOfTheRound())),
    "advance by the batch minimum": (battery.check_neighbours, verified_by(BatchMinimum())),
    "a rejected draft stays in the cache": (battery.check_identity, stepped_by(StaleDraftInCache)),
    "stops inside a chunk are missed": (battery.check_stops, stepped_by(LateStops)),
    "stop strings across chunks are missed": (battery.check_stops, stepped_by(StringsOfAChunk)),
    "keys depend on the batch": (battery.check_alone, stepped_by(KeysOfTheBatch)),
    "unequal decoders of equal parts": (battery.check_compiled_once, stepped_by(Unequal)),
    "a key of its own": (battery.check_keys, stepped_by(OneKey)),
    "laws that are not finite are healed": (battery.check_broken_model, stepped_by(HealedLaws)),
    "forwards of ended rows are counted": (battery.check_record, stepped_by(ForwardsOfEndedRows)),
    "no declaration": (battery.check_declaration, stepped_by(Undeclared)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_caught(name, quick_compilation):
    check, make = FAULTS[name]
    with pytest.raises(AssertionError, match="0 of 1 checks passed"):
        testing.check(make, checks=(check,), read_left=False)
