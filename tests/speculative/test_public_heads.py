"""Drafters that read the states of several layers of their target: EAGLE-3 and DFlash, of random weights."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec import growth
from jaxdec.decoding import init
from jaxdec.model import Inputs, early_exit, from_nnx, tapped
from jaxdec.models import (
    DFlash,
    DFlashConfig,
    Eagle3,
    Eagle3Config,
    Transformer,
    TransformerConfig,
)
from jaxdec.speculative import explain

pytestmark = pytest.mark.usefixtures("quick_compilation")

V, WIDTH, TAPS = 6, 8, (0, 2, 1)
CONFIG = TransformerConfig(
    vocab_size=V, width=WIDTH, layers=2, heads=2, kv_heads=1, head_dim=4, hidden=12
)
SIZES = {**dataclasses.asdict(CONFIG), "taps": TAPS}
NARROW = {"heads": 2, "width": 12, "head_dim": 6, "target_width": WIDTH, "layers": 1}
CONFIGS = {
    "eagle3": (Eagle3, Eagle3Config(**{**SIZES, **NARROW}, draft_vocab_size=4)),
    "dflash": (DFlash, DFlashConfig(**{**SIZES, "qk_norm": "head"}, mask_token=V - 1, block=5)),
}
DRAFTED = [0, 1, 3, 5]
PROMPT = np.array([[1, 2, 3, 4, 5], [4, 0, 0, 0, 0], [2, 2, 0, 0, 0]])
LENGTHS = np.array([5, 1, 2])
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def noisy(params, seed, scale):
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(seed)
    move = lambda x: x + scale * rng.standard_normal(x.shape).astype("f")
    return tree.unflatten([move(x) if x.dtype == jnp.float32 else x for x in leaves])


@functools.cache
def target():
    model, params = from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(0)))
    return model, noisy(params, 0, 0.5)


@functools.cache
def drafting(kind, rule=None):
    """A decoder with a drafter of random weights, and the parameters of both."""
    network, config = CONFIGS[kind]
    module = network(config, rngs=nnx.Rngs(1))
    params = noisy(from_nnx(module)[1], 1, 0.5)
    if kind == "eagle3":
        params["d2t"] = jnp.asarray(DRAFTED) - jnp.arange(4)
        model = from_nnx(module)[0]
        drafter = jaxdec.drafters.eagle(model, growth=rule)
    else:
        model = dataclasses.replace(from_nnx(module)[0], mask_token=V - 1, causal=False)
        drafter = jaxdec.drafters.dflash(model, block=5, growth=rule)
    decoder = jaxdec.speculative(target()[0], drafter=drafter)
    return decoder, {"target": target()[1], "draft": params}


@functools.cache
def trace(kind, rule=None):
    """Greedy decoding step by step: `(rows, drafter's state, drafts of the next step)`, and the last rows."""
    decoder, params = drafting(kind, rule)
    request = jaxdec.prepare(
        decoder, params, PROMPT, lengths=LENGTHS, max_new_tokens=9, temperature=0.0
    )
    state, seen = init(decoder, params, request), []
    while np.asarray(state.rows.running).any():
        before = state
        state, step = explain(decoder, params, state, jax.random.key(0))
        seen.append(jax.tree.map(np.array, (before.rows, before.draft, step.tree.tokens)))
    assert int(step.info.draft_forwards[0]) <= {"eagle3": 3, "dflash": 1}[kind]
    return seen, jax.tree.map(np.array, state.rows)


SCORE = jax.jit(
    lambda params, tokens: tapped(target()[0], TAPS)(params, Inputs.causal(tokens[None]), None)
)


def states(rows, row):
    """The tapped states over a whole row, side by side; later tokens change nothing of earlier ones."""
    output = SCORE(target()[1], jnp.asarray(rows.tokens[row]))
    return np.concatenate([np.asarray(state[0]) for state in output.layer_states], axis=-1)


def running(kind, rule=None):
    for rows, draft, tokens in trace(kind, rule)[0]:
        for row in np.flatnonzero((rows.status == 0) & (rows.length > 1)):
            yield rows, draft, tokens, row


CHAIN = growth.chain(3)


@pytest.mark.parametrize(("kind", "rule"), [("eagle3", CHAIN), ("dflash", None)])
def test_greedy_tokens_are_the_likeliest(kind, rule):
    rows = trace(kind, rule)[1]
    for row, start in enumerate(LENGTHS):
        assert rows.length[row] == start + 9
        logits = SCORE(target()[1], jnp.asarray(rows.tokens[row])).logits[0]
        places = np.arange(start, rows.length[row])
        np.testing.assert_array_equal(rows.tokens[row, places], logits[places - 1].argmax(-1))


def test_eagle3_drafts_by_its_own_states():
    """A greedy chain against one forward a draft over pairs from scratch: true features, then what was predicted."""
    decoder, params = drafting("eagle3", CHAIN)
    model, own = decoder.drafter.model, params["draft"]
    assert model.taps == TAPS
    width = 40
    read = jax.jit(lambda t, f: model(own, Inputs.causal(t[None], 1, features=f[None]), None))
    for rows, draft, drafted, row in running("eagle3", CHAIN):
        pairs = int(rows.length[row]) - 1
        tokens = np.zeros(width, np.int32)
        tokens[:pairs] = rows.tokens[row, 1 : pairs + 1]
        features = np.zeros((width, 12), np.float32)
        features[:pairs] = states(rows, row)[:pairs] @ np.asarray(own["fc"]["kernel"])
        stored = int(draft.cache.length[row])
        waiting = draft.features[row, : pairs - stored]
        np.testing.assert_allclose(waiting, features[stored:pairs], **CLOSE)
        for depth in range(3):
            output = read(jnp.asarray(tokens), jnp.asarray(features))
            last = pairs + depth - 1
            expected = int(output.logits[0, last].argmax())
            assert expected in DRAFTED and drafted[row, depth] == expected
            tokens[last + 1], features[last + 1] = expected, output.hidden[0, last]


def test_dflash_fills_the_block_from_all_context():
    """Context from scratch and one block that sees all of it, against what was cached and drafted."""
    decoder, params = drafting("dflash")
    model, own = decoder.drafter.model, params["draft"]

    @jax.jit
    def reference(states, tokens, known):
        inputs = Inputs.causal(tokens[None], features=model.fuse(own, states[None]))
        entries = model(own, inputs, None).entries
        cache = model.init_cache(1, len(tokens))
        index = jnp.arange(len(tokens), dtype=jnp.int32)[None]
        everywhere = jnp.broadcast_to(jnp.array([0, 1 << 20], jnp.int32), (*index.shape, 2))
        cache = cache.commit(entries, index, known[None], everywhere)
        block = jnp.full((1, 5), V - 1, jnp.int32).at[0, 0].set(tokens[known])
        places = known + jnp.arange(5, dtype=jnp.int32)[None]
        output = model(own, Inputs(block, places, *jaxdec.visibility.full(places)), cache)
        return entries, output.logits[0, 1:, : V - 1].argmax(-1)

    for rows, draft, drafted, row in running("dflash"):
        known = int(rows.length[row]) - 1
        assert int(draft.length[row]) == known
        entries, expected = reference(states(rows, row), rows.tokens[row], jnp.int32(known))
        for layer, true in enumerate(entries.layers):
            for held, made in zip(draft.read(layer)[:2], true, strict=True):
                np.testing.assert_allclose(held[row, :, :known], made[0, :, :known], **CLOSE)
        np.testing.assert_array_equal(drafted[row], expected)


def test_taps_come_after_what_was_asked_for_before():
    model = from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(0)), layer_states=(1,))[0]
    assert tapped(model, (0, 2)).forward.layer_states == (1, 0, 2)
    assert tapped(model, ()) == model
    assert drafting("eagle3", CHAIN)[0].model == tapped(target()[0], TAPS)


def test_refusals():
    decoder, params = drafting("eagle3", CHAIN)
    model = decoder.drafter.model
    with pytest.raises(ValueError, match="after layers 0 to 1, got 2"):
        jaxdec.speculative(early_exit(target()[0], 1), drafter=decoder.drafter)
    deep = dataclasses.replace(model, taps=(0, 1, 3))
    with pytest.raises(ValueError, match="after layers 0 to 2, got 3"):
        jaxdec.speculative(target()[0], drafter=jaxdec.drafters.eagle(deep))
    plain = dataclasses.replace(target()[0], forward=lambda *inputs: None)
    with pytest.raises(ValueError, match="only a model of from_nnx gives the states"):
        jaxdec.speculative(plain, drafter=decoder.drafter)
    filler = drafting("dflash")[0].drafter.model
    with pytest.raises(ValueError, match="has no mask token"):
        jaxdec.drafters.dflash(model)
    with pytest.raises(ValueError, match="block must be at least 2, got 1"):
        jaxdec.drafters.dflash(filler, block=1)
    with pytest.raises(ValueError, match="a block of 3 drafts at most 2 levels, got 3"):
        jaxdec.drafters.dflash(filler, block=3, growth=growth.chain(3))
    wide = {**params, "draft": {**params["draft"], "fc": {"kernel": jnp.ones((18, 12))}}}
    with pytest.raises(ValueError, match=r"does not read the target's hidden states, .* of 8"):
        init(decoder, wide, jaxdec.prepare(decoder, wide, PROMPT, lengths=LENGTHS))
    for change in ({"layers": 2}, {"taps": ()}, {"draft_vocab_size": 7}, {"target_width": 0}):
        with pytest.raises(ValueError, match=r"1 layer|taps|draft_vocab_size|target_width"):
            dataclasses.replace(CONFIGS["eagle3"][1], **change)
    for change in ({"mask_token": V}, {"taps": (-1,)}, {"block": 1}):
        with pytest.raises(ValueError, match=r"mask_token|taps|block"):
            dataclasses.replace(CONFIGS["dflash"][1], **change)
