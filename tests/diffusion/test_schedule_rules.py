"""What a schedule says beside the order: what an unknown position is fed, who sees whom, which tokens may stand where.

Each rule is tried by a small schedule of its own, on a model that tells every token that it may see from one that it
may not, against a loop in Python that knows no spans, no masks and no cache.
"""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec import visibility
from jaxdec.diffusion import denoise, refresh, schedules, unmask
from jaxdec.model import Inputs, Queries
from tests.diffusion.canvases import (
    LENGTHS,
    PROMPTS,
    VOCAB,
    decode,
    forwards,
    oracle,
    same,
    texts,
    transformer,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")
SIDES = (1, 2, 3, 4)
SCALES = np.repeat(np.arange(len(SIDES)), np.square(SIDES))
MODEL, TABLE = oracle()
BLOCK_CAUSAL = schedules.BlockCausal()
BUDGET = np.array([30, 14, 21])  # a scale may be cut


def sources(sides=SIDES):
    """The place in the scale before that lies under each place; -1 in the first scale."""
    found = [-1]
    for first, (coarse, fine) in zip((0, 1, 5), itertools.pairwise(sides), strict=True):
        for h in range(fine):
            found += [first + h * coarse // fine * coarse + w * coarse // fine for w in range(fine)]
    return tuple(found)


@dataclasses.dataclass(frozen=True)
class NextScale(schedules.Partition):
    """Square maps of growing side; a position is fed what the map before holds there, known or not."""

    table: tuple[int, ...] = tuple(SCALES.tolist())
    spans: schedules.SpanRule = BLOCK_CAUSAL

    def inputs(self, params, tokens, known, places, groups, mask):
        here = jnp.arange(tokens.shape[1])
        below = jnp.asarray(sources())[jnp.clip(places, 0, len(self.table) - 1)]
        at = jnp.where(places < 0, here, here - places + below)
        there = (places < 0) | (below >= 0)
        look = lambda x: jnp.take_along_axis(x, at, axis=1, mode="clip")
        return super().inputs(params, look(tokens), look(known) & there, places, groups, mask)


@dataclasses.dataclass(frozen=True)
class Codebooks(schedules.Partition):
    """Groups of 1, 3, 8 and 18 positions, each with a codebook of two tokens of its own."""

    table: tuple[int, ...] = tuple(np.repeat(np.arange(4), [1, 3, 8, 18]).tolist())

    def allowed(self, params, places, groups, size):
        return jnp.arange(size) // 2 == groups[..., None]


@jax.jit
def laws(params, tokens, positions, seen, wanted):
    """Logits `[Q, V]` of the oracle at positions `wanted [Q]`, given tokens `[K]`, those that each sees `[Q, K]`."""

    def one(seen, wanted):
        spans = visibility.full(positions[None]).where(seen[None])
        query = Queries(wanted[None, None], jnp.zeros((1, 1, 2), int), jnp.asarray([64]))
        inputs = Inputs(tokens[None], positions[None], *spans, query)
        return MODEL.forward(params, inputs, None).logits[0, 0]

    return jax.vmap(one)(seen, wanted)


def twin(row, table, feed, sees, allowed=lambda group: range(VOCAB)):
    """One row, group after group, all positions of a group at once and greedily; and their log-probabilities.

    Args:
      row: of the prompts.
      table: the group of each place.
      feed: the place whose token a place is fed; None for nothing.
      sees: whether a group sees another.
      allowed: tokens of a group.
    """
    prompt, size = LENGTHS[row], BUDGET[row]
    written, log_probs = {}, np.zeros(size)
    for group in range(max(table) + 1):
        at = [place for place in range(size) if table[place] == group]
        tokens, seen = np.zeros(64, np.int32), np.zeros((64, 64), bool)
        tokens[:prompt] = PROMPTS[row, :prompt]
        seen[:, :prompt] = True
        for place in range(size):
            if (source := feed(place)) in written:
                tokens[prompt + place] = written[source]
                seen[:, prompt + place] = sees(group, table[place])
        wanted = np.resize(np.add(at, prompt), 64) if at else np.zeros(64, int)
        logits = np.asarray(laws(TABLE, tokens, np.arange(64), seen, wanted), np.float64)[: len(at)]
        mine = list(allowed(group))
        for place, law in zip(at, logits, strict=True):
            best = mine[int(np.argmax(law[mine]))]
            written[place] = best
            log_probs[place] = law[best] - np.log(np.exp(law[mine]).sum())
    return [written[place] for place in range(size)], log_probs


def run(schedule, *, canvas=True, **options):
    """Decodes all positions of a group in one step, greedily."""
    model, params = oracle(canvas)
    decoder = denoise(model, unmask=unmask.threshold(-1.0), schedule=schedule, **options)
    return decode(decoder, {"target": params}, max_new_tokens=BUDGET, temperature=0.0)


def as_the_twin(found, *rules):
    for row, tokens in enumerate(texts(found)):
        expected, log_probs = twin(row, *rules)
        start, end = LENGTHS[row], LENGTHS[row] + BUDGET[row]
        assert tokens[start:] == expected, f"row {row}"
        raw = np.asarray(found.raw_log_probs)[row, start:end]
        np.testing.assert_allclose(raw, log_probs, rtol=1e-4, atol=1e-4)


RULES = {
    "all scales before": (schedules.BlockCausal(), lambda group, other: other <= group),
    "the scale before": (
        schedules.Until(range(1, len(SIDES) + 1)),
        lambda group, other: other <= group <= other + 1,
    ),
    "itself": (schedules.Until(range(len(SIDES))), lambda group, other: other == group),
    "everything": (schedules.Full(), lambda group, other: True),
}


@pytest.mark.parametrize("name", RULES)
def test_next_scale_inputs(name):
    """A scale is fed the scale before; what was fed to a finished scale does not change, so that its cache is exact."""
    spans, sees = RULES[name]
    feed = lambda place: sources()[place]
    plain = run(NextScale(spans=spans))
    as_the_twin(plain, SCALES.tolist(), feed, sees)
    assert forwards(plain) == [len(set(SCALES[:size])) for size in BUDGET]
    if spans.one_way:
        same(plain, run(NextScale(spans=spans), refresh=refresh.block()))


def test_the_attention_argument_is_another_choice_of_the_rule():
    spans, _ = RULES["the scale before"]
    same(run(NextScale(spans=spans)), run(NextScale(), attention=spans))
    assert denoise(oracle(True)[0], schedule=NextScale()) == denoise(
        oracle(True)[0], schedule=NextScale(), attention="causal"
    )


@pytest.mark.parametrize("name", ["the scale before", "everything"])
def test_branches_under_any_rule(name):
    """Branches of a unit that is not seen for ever, with the entries of finished ones read from a cache."""
    spans, _ = RULES[name]
    rule = refresh.block() if spans.one_way else refresh.none()
    model, params = oracle(True)
    options = dict(unmask=unmask.quota("max_prob"), schedule=NextScale(spans=spans))
    static, branched = (
        decode(decoder, {"target": params}, max_new_tokens=BUDGET, temperature=0.8)
        for decoder in (
            denoise(model, **options),
            denoise(model, **options, branches=3, refresh=rule),
        )
    )
    same(static, branched)
    assert sum(forwards(branched)) < sum(forwards(static))


@pytest.mark.parametrize("canvas", [True, False], ids=["masks", "queries"])
def test_a_codebook_a_group_and_groups_of_unequal_size(canvas):
    """Tokens of other codebooks are impossible, in the model's own law too."""
    found = run(Codebooks(), canvas=canvas)
    own = lambda place: place
    everything = lambda group, other: True
    codebook = lambda group: (2 * group, 2 * group + 1)
    as_the_twin(found, Codebooks().table, own, everything, codebook)
    assert forwards(found) == [4, 4, 4]


def test_guidance_leaves_the_prompt_out_of_the_input_rule():
    """Without the prompt a scale is still fed the scale before; a scale of 0 is no guidance."""
    model, params = oracle(True)
    options = dict(unmask=unmask.threshold(-1.0), schedule=NextScale())
    plain = decode(denoise(model, **options), {"target": params}, max_new_tokens=BUDGET)
    guided = denoise(model, **options, guided=True)
    same(plain, decode(guided, {"target": params}, max_new_tokens=BUDGET, guidance=0.0))
    assert texts(decode(guided, {"target": params}, max_new_tokens=BUDGET, guidance=3.0)) != texts(
        plain
    )


@dataclasses.dataclass(frozen=True)
class Latents(schedules.Blocks):
    """Feeds what the model would make of the tokens: embeddings."""

    name: str = "latents"

    def inputs(self, params, tokens, known, places, groups, mask):
        return params[super().inputs(params, tokens, known, places, groups, mask)]


def test_a_position_may_be_fed_an_embedding():
    model, params = transformer()
    table = jax.tree.leaves(params["embed_tokens"])[0]
    schedule = Latents(8, from_start=True)
    options = dict(attention="causal", refresh=refresh.block())
    plain = denoise(model, schedule=schedules.blocks(8, from_start=True), **options)
    fed = denoise(model, schedule=schedule, **options)
    given = {"target": params, "latents": table}
    same(decode(plain, given, threshold=0.3), decode(fed, given, threshold=0.3))
    with pytest.raises(ValueError, match=r"with 'target', 'latents'; got dict with 'target'"):
        decode(fed, {"target": params})


def test_rules_that_do_not_fit():
    with pytest.raises(ValueError, match="NextScale has an input rule, but the model answers"):
        denoise(oracle()[0], schedule=NextScale())
    with pytest.raises(ValueError, match="unit 1 must see itself, got 0"):
        schedules.Until([1, 0])
    with pytest.raises(ValueError, match="attention must be full, causal or a SpanRule"):
        denoise(oracle()[0], attention=functools.partial(print))
