"""Falcon and Chimera draft what their networks say of the text so far, and change no token."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec import visibility
from jaxdec.decoding import init, stream
from jaxdec.model import Inputs, from_nnx
from jaxdec.models import ChimeraConfig, FalconConfig, Transformer, TransformerConfig, build_heads
from jaxdec.models.chimera import Chimera
from jaxdec.speculative import Context, growth

pytestmark = pytest.mark.usefixtures("quick_compilation")

V, WIDTH = 6, 8
CONFIG = TransformerConfig(
    vocab_size=V, width=WIDTH, layers=1, heads=2, kv_heads=1, head_dim=4, hidden=12
)
SIZES = {
    "falcon": FalconConfig(**dataclasses.asdict(CONFIG), block=2, memory=4),
    "chimera": ChimeraConfig(**dataclasses.asdict(CONFIG), embedding=4),
}
PROMPT = np.array([[1, 2, 3, 4, 5], [4, 0, 0, 0, 0], [2, 2, 0, 0, 0]])
LENGTHS = np.array([5, 1, 2])
DRAFTS = 4


@functools.cache
def target():
    model, params = from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(0)))
    return model, jax.tree.map(lambda x: 3 * x, params)


@functools.cache
def network(kind):
    """The network, with random weights in all places."""
    model, params = build_heads(kind, SIZES[kind])
    rng = np.random.default_rng(1)
    return model, jax.tree.map(lambda x: x + rng.normal(0, 0.3, x.shape).astype("f"), params)


@functools.cache
def drafting(kind, rule=None):
    rule = growth.best_first(9, 3, width=2, siblings=3) if rule is None else rule
    make = {"falcon": jaxdec.drafters.falcon, "chimera": jaxdec.drafters.eagle}[kind]
    drafter = make(network(kind)[0], growth=rule)
    params = {"target": target()[1], "draft": network(kind)[1]}
    return jaxdec.speculative(target()[0], drafter=drafter), params


def decode(decoder, params, rows=slice(None), temperature=(0.9, 0.0, 0.9)):
    keys = jax.random.split(jax.random.key(3), 3)[rows]
    return jaxdec.generate(
        *(decoder, params, PROMPT[rows]),
        **dict(lengths=LENGTHS[rows], rng=keys, max_new_tokens=20),
        temperature=np.array(temperature)[rows],
    )


def rows_of(result):
    return [np.asarray(r)[:n].tolist() for r, n in zip(result.tokens, result.lengths, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", SIZES)
def test_tokens_are_those_of_plain_decoding(kind):
    """Whatever the weights, from prompts of one token on."""
    decoder, params = drafting(kind)
    plain = decode(jaxdec.autoregressive(target()[0]), {"target": target()[1]})
    result = decode(decoder, params)
    assert rows_of(result) == rows_of(plain)
    assert int(result.stats.accepted.sum()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", SIZES)
def test_neighbours_change_no_drafts(kind):
    decoder, params = drafting(kind)
    result = decode(decoder, params)
    for row in range(3):
        alone = decode(decoder, params, slice(row, row + 1))
        assert int(alone.stats.accepted[0]) == int(result.stats.accepted[row])
        assert int(alone.stats.proposed[0]) == int(result.stats.proposed[row])


def falcon_drafts(features, tokens):
    """Two forwards over all pairs, the last two of which see one another."""
    model, params = network("falcon")
    drafts: list[int] = []
    for _ in range(DRAFTS // 2):
        count = len(tokens)
        places = jnp.arange(1, count + 1)[None]
        number = jnp.where(places > count - 2, count, places)
        spans = visibility.causal(places)
        looks = jnp.stack([number, number], axis=-1)
        inputs = Inputs(
            jnp.asarray([tokens]), places, looks, spans.key_spans, features=features[None]
        )
        output = model(params, inputs, None)
        new = np.asarray(output.logits[0, -2:]).argmax(-1)
        features = np.concatenate([features, output.hidden[0, -2:]])
        tokens, drafts = [*tokens, *new], [*drafts, *new.tolist()]
    return drafts


def chimera_drafts(features, tokens):
    """A layer over states and one trigram, a draft a forward."""
    graph = nnx.split(Chimera(SIZES["chimera"], rngs=nnx.Rngs(0)))[0]
    module = nnx.merge(graph, network("chimera")[1])
    states, last, drafts = features, features[-1], []
    for _ in range(DRAFTS):
        two, one = (tokens[max(-n, -len(tokens))] for n in (3, 2))
        gram = module.trigram(jnp.array([two, one, tokens[-1]]))
        x = jnp.concatenate([states, gram[None]])[None]
        read = module.layer(x, Inputs.causal(jnp.zeros(x.shape[:2], jnp.int32)))[0][0, -1]
        matrix = lambda half: getattr(module, half)["lm_head"].kernel[...]
        drafts.append(int((last @ matrix("last") + read @ matrix("predicted")).argmax()))
        states, tokens = np.concatenate([states, read[None]]), [*tokens, drafts[-1]]
    return drafts


@pytest.mark.slow
@pytest.mark.parametrize("kind", SIZES)
def test_drafts_are_those_of_the_whole_text(kind):
    """A chain at temperature 0 after a step or two, against forwards without a cache."""
    decoder, params = drafting(kind, growth.chain(DRAFTS))
    request = jaxdec.prepare(decoder, params, PROMPT[:1], max_new_tokens=9, temperature=0.0)
    read = jax.jit(lambda tokens: target()[0](target()[1], Inputs.causal(tokens), None).hidden[0])
    propose = jax.jit(decoder.drafter.propose)
    expected = {"falcon": falcon_drafts, "chimera": chimera_drafts}[kind]
    seen = 0
    for state, _ in stream(decoder, params, init(decoder, params, request), jax.random.key(0)):
        rows = jax.tree.map(np.array, state.rows)
        if rows.status[0] or seen == 2:
            break
        length = int(rows.length[0])
        features = np.asarray(read(jnp.asarray(rows.tokens)))[: length - 1]
        keys, noise = jax.random.split(jax.random.key(0), 1), jnp.zeros((1, DRAFTS + 1, V))
        context = Context(state.rows, state.settings, keys, noise)
        tree, _ = propose(decoder.drafter.own(params), state.draft, context)
        assert tree.mask.all()
        assert tree.tokens[0].tolist() == expected(features, rows.tokens[0, 1:length].tolist())
        seen += 1
    assert seen > 1


def test_reductions_and_refusals():
    """Falcon with blocks of one draft is EAGLE; its forwards are a k-th."""
    model = network("falcon")[0]
    rule = growth.chain(5)
    assert jaxdec.drafters.falcon(model, block=1, growth=rule) == jaxdec.drafters.eagle(
        model, growth=rule
    )
    assert jaxdec.drafters.falcon(model, growth=rule).forwards == 3
    with pytest.raises(ValueError, match="block must be at least 1, got 0"):
        jaxdec.drafters.falcon(model, block=0)
    for change in ({"layers": 2}, {"memory": 0}, {"block": 0}):
        with pytest.raises(ValueError, match=next(iter(change)).rstrip("s")):
            dataclasses.replace(SIZES["falcon"], **change)
    with pytest.raises(ValueError, match="embedding"):
        dataclasses.replace(SIZES["chimera"], embedding=0)
