"""Draft heads are trained on what they will draft, and shipped as they were trained."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdec import checkpoints, visibility
from jaxdec.model import Inputs, from_nnx
from jaxdec.models import (
    ChimeraConfig,
    FalconConfig,
    HeadsConfig,
    Transformer,
    TransformerConfig,
    build_heads,
)
from jaxdec.training import corpus, falcon
from jaxdec.training.export import Origin
from jaxdec.training.export_heads import export_heads
from jaxdec.training.heads import HeadTraining, drafts, heads_loss, train_heads

pytestmark = pytest.mark.usefixtures("quick_compilation")

V, LENGTH = 260, 12
CONFIG = TransformerConfig(
    vocab_size=V, width=8, layers=1, heads=2, kv_heads=1, head_dim=4, hidden=12
)
MODEL, TARGET = from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(0)))
EAGLE = HeadTraining(
    kind="eagle", model=CONFIG, target="tiny", steps=2, batch=2, length=LENGTH, rows_at_once=1
)
sized = lambda kind, **more: kind(**dataclasses.asdict(CONFIG), **more)
MEDUSA = dataclasses.replace(EAGLE, kind="medusa", model=HeadsConfig(V, 8, 3))
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, V, (2, LENGTH + 1)), jnp.int32)


def scored():
    return MODEL(TARGET, Inputs.causal(TOKENS[:, :-1]), None)


def test_heads_of_each_depth_meet_the_law_they_draft():
    """A perfect head of depth d gives the target's law d tokens later: the losses compare these."""
    output = scored()
    heads, _ = build_heads("medusa", MEDUSA.model)

    def perfect(params, hidden, path):
        depth, count = path.shape[-1], hidden.shape[1]
        np.testing.assert_array_equal(path[:, :, -1], TOKENS[:, depth : depth + count])
        return output.logits[:, depth : depth + count]

    heads = dataclasses.replace(heads, law=perfect)
    found = drafts(MEDUSA, heads, {}, TOKENS, output)
    assert [f.predictions.logits.shape[1] for f in found] == [LENGTH - 1, LENGTH - 2, LENGTH - 3]
    for depth, (predictions, _, places) in enumerate(found, 1):
        np.testing.assert_array_equal(places, np.arange(depth, LENGTH))
        np.testing.assert_array_equal(predictions.tokens, TOKENS[:, depth + 1 :])
    entropy = lambda x: -(jax.nn.softmax(x) * jax.nn.log_softmax(x)).sum(-1).mean()
    weights = np.array([1, 0.8, 0.64])
    expected = (
        sum(w * entropy(output.logits[:, d:]) for d, w in enumerate(weights, 1)) / weights.sum()
    )
    loss = heads_loss(MEDUSA, heads, {}, TOKENS, output)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.slow
def test_eagle_unrolls_as_it_drafts():
    """Step s at place i: true pairs up to i - s + 1, then pairs with predicted features, read one by one."""
    output = scored()
    eagle, params = build_heads("eagle", CONFIG, seed=1)
    found = drafts(EAGLE, eagle, params, TOKENS, output)
    place = 6
    features, pairs = output.hidden[:, : place - 1], TOKENS[:, 1:]
    for step in range(EAGLE.unroll):
        size = features.shape[1]
        inputs = Inputs.causal(pairs[:, :size], 1, features=features)
        read = eagle(params, inputs, None)
        predictions, hidden, _ = found[step]
        at = size - 1 - step
        np.testing.assert_allclose(
            predictions.logits[:, at], read.logits[:, -1], rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(hidden[:, at], read.hidden[:, -1], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(predictions.tokens[:, at], TOKENS[:, size + 1])
        features = jnp.concatenate([features, read.hidden[:, -1:]], axis=1)


FALCON = dataclasses.replace(EAGLE, kind="falcon", model=sized(FalconConfig, memory=4), unroll=2)
CHIMERA = dataclasses.replace(EAGLE, kind="chimera", model=sized(ChimeraConfig, embedding=4))


@pytest.mark.slow
def test_falcon_unrolls_as_it_drafts():
    """Step s of a block: true pairs up to s blocks before it, then blocks with predicted features, one by one."""
    output = scored()
    network, params = build_heads("falcon", FALCON.model, seed=1)
    params = jax.tree.map(lambda x: x + 0.1, params)
    found = drafts(FALCON, network, params, TOKENS, output)
    assert [len(x.places) for x in found] == [5, 5, 4, 4]
    features, end = output.hidden[:, :6], 6
    for step in range(2):
        places = jnp.broadcast_to(jnp.arange(1, end + 1), (2, end))
        number = jnp.where(places > end - 2, end, places)
        spans = visibility.causal(places)._replace(query_spans=jnp.stack([number, number], -1))
        inputs = Inputs(TOKENS[:, 1 : end + 1], places, *spans, features=features)
        read = network(params, inputs, None)
        for slot in range(2):
            draft = found[2 * step + slot]
            at = int(np.flatnonzero(draft.places == end + slot)[0])
            close = dict(rtol=1e-4, atol=1e-5)
            laws = draft.predictions.logits[:, at]
            np.testing.assert_allclose(laws, read.logits[:, slot - 2], **close)
            np.testing.assert_allclose(draft.features[:, at], read.hidden[:, slot - 2], **close)
            truth = TOKENS[:, end + slot + 1]
            np.testing.assert_array_equal(draft.predictions.tokens[:, at], truth)
        features, end = jnp.concatenate([features, read.hidden[:, -2:]], axis=1), end + 2


def test_glances_show_the_first_pairs_of_a_share_of_blocks():
    wrong = jnp.array([[1, 1, 1, 1, 0, 0], [0, 0, 0, 1, 0, 0]], bool)
    chance = jnp.array([[0.9, 0, 0.1, 0, 0.5, 0], [0.1, 0, 0.2, 0, 0.3, 0]])
    shown = falcon.shown_blocks(wrong, chance, jnp.array([0.5, 1.0]), 2)
    assert shown.astype(int).tolist() == [[0, 0, 1, 0, 1, 0], [1, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    "config",
    [MEDUSA, EAGLE, *(pytest.param(x, marks=pytest.mark.slow) for x in (FALCON, CHIMERA))],
    ids=lambda config: config.kind,
)
def test_a_run_and_its_checkpoint(config, tmp_path):
    sources = tuple(corpus.Source(f"{i}.py", b"x = 1\nyes = x + 2\n" * 4) for i in range(3))
    data = corpus.Corpus(sources[:2], sources[2:])
    losses = []
    heads, params = train_heads(
        config, data, tmp_path / "run", (MODEL, TARGET), report=lambda *x: losses.append(x[1])
    )
    assert len(losses) == 2
    facts = export_heads(
        *(tmp_path / "out", "heads", config, data, heads, params, (MODEL, TARGET)),
        Origin(about="tiny heads"),
    )
    held = checkpoints.load_any(tmp_path / "out")
    assert (held.kind, held.target, held.heads.vocab_size) == (config.kind, "tiny", V)
    assert held.size == facts["parameters"] and held.facts == json.loads(json.dumps(facts))
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=0.01, atol=1e-3)
    jax.tree.map(close, held.params, params)
    if config is not MEDUSA:
        assert (held.config.window, held.config.max_length) == (LENGTH, 8192)
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"| 1 | {facts['agreement_by_rank'][0][0]:.3f} |" in card
    with pytest.raises(ValueError, match="heads on a model"):
        checkpoints.load(tmp_path / "out")


@pytest.mark.parametrize(
    "changes", [{"distill": 2.0}, {"decay": 0.0}, {"unroll": 0}, {"unroll": LENGTH}]
)
def test_refusals(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        dataclasses.replace(EAGLE, **changes)
