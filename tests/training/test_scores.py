"""Heads that score steps: labelled by the checkers, read at the ends of steps, trained and shipped like other heads."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdec import autoregressive, checkpoints, generate, search, text
from jaxdec.catalogue import METHODS
from jaxdec.catalogue.assembly import assemble
from jaxdec.model import Inputs, from_nnx
from jaxdec.models import ScoreConfig, Transformer, TransformerConfig, build_heads
from jaxdec.training.export import Origin
from jaxdec.training.export_tasks import export_scores
from jaxdec.training.roll_outs import RollOuts, accuracy, labelled, roll_outs, sample
from jaxdec.training.scores import ScoreTraining, discrimination, draw, train_scores
from jaxdec.training.tasks import Arithmetic, Countdown, TaskMixture, problems

pytestmark = pytest.mark.usefixtures("quick_compilation")

WIDTH = 8
CONFIG = TransformerConfig(
    vocab_size=text.VOCAB_SIZE, width=WIDTH, layers=1, heads=2, kv_heads=1, head_dim=4, hidden=12
)
MODEL, PARAMS = from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(0)))
TASKS = TaskMixture((Arithmetic((1, 2)), Countdown()), (0.5, 0.5))
TRAINING = ScoreTraining(
    kind="value", model=ScoreConfig(WIDTH, 4), mixture=TASKS, target="tiny", steps=60, batch=64,
    rows_at_once=64, length=64, problems=2, samples=2, warmup=5, learning_rate=0.1,
)  # fmt: skip


def test_prefixes_are_labelled_at_their_ends():
    task, prompt = Countdown(), "C2,3,5=30\n"
    body = lambda words: 1 + len(prompt + words) - 1  # BOS stands before the prompt
    right = "2*3=6\n6*5=30\n"
    assert labelled(task, prompt, right) == [
        (body(""), 1, 1), (body("2*3=6\n"), 1, 1), (body(right), 1, 1), (body(right) + 1, 1, 1),
    ]  # fmt: skip
    lost = "2+3=5\n5*5=25\n"
    assert labelled(task, prompt, lost) == [
        (body(""), 1, 0), (body("2+3=5\n"), 0, 0), (body(lost), 0, 0), (body(lost) + 1, 0, 0),
    ]  # fmt: skip
    assert labelled(task, prompt, "2*3=6\n6*") == [(body(""), 1, 0), (body("2*3=6\n"), 1, 0)]
    assert [reward for _, reward, _ in labelled(task, prompt, "")] == [1, 0]


def test_accuracy_counts_solutions_votes_and_problems():
    task = Arithmetic()
    held = problems(task, 3)
    wrong = [p.solution[:-2] + str((int(p.solution[-2]) + 1) % 10) + "\n" for p in held]
    good = [p.solution for p in held]
    found = accuracy(
        task,
        held,
        [[good[0]] * 2 + [wrong[0]], [wrong[1]] * 2 + [good[1]], ["?", "", wrong[2]]],
    )
    assert found == {"each": 3 / 9, "voted": 1 / 3, "any": 2 / 3}


def test_states_are_those_of_the_prefixes_alone():
    tasks = TASKS.tasks
    held = [(i, p) for i, task in enumerate(tasks) for p in problems(task, 1, seed=5)]
    more = {"samples": 2, "most": 8, "batch": 4}
    found = roll_outs(MODEL, PARAMS, tasks, held, length=64, **more)
    written = sample(MODEL, PARAMS, [p.prompt for _, p in held], **more)
    places = [
        (which, p.prompt + one, place, reward, value)
        for (which, p), some in zip(held, written, strict=True)
        for one in some
        for place, reward, value in labelled(tasks[which], p.prompt, one)
    ]
    assert len(places) == len(found.tasks) >= 4
    states = jax.jit(lambda tokens: MODEL(PARAMS, Inputs.causal(tokens), None).hidden)
    for i, (which, words, place, reward, value) in enumerate(places):
        assert (found.tasks[i], found.reward[i], found.value[i]) == (which, reward, value)
        prefix = np.array([text.BOS, *words.encode(), text.EOS], np.int32)[: place + 1]
        padded = np.pad(prefix, (0, 64 - len(prefix)), constant_values=text.MASK)
        expected = states(padded[None])[0, place]
        np.testing.assert_allclose(found.hidden[i], expected, rtol=1e-4, atol=1e-5)


def made(count=400, seed=0):
    """Roll-outs whose values have the odds `exp(4 x)` by the first number x of a state; rewards are certain by it."""
    generator = np.random.default_rng(seed)
    hidden = generator.normal(size=(count, WIDTH)).astype(np.float32)
    chance = 1 / (1 + np.exp(-4 * hidden[:, 0]))
    value = (generator.random(count) < chance).astype(np.float32)
    reward = (hidden[:, 0] > 0).astype(np.float32)
    return RollOuts(hidden, reward, value, (np.arange(count) % 2).astype(np.int32))


def test_discrimination_is_that_of_all_pairs():
    data = made(60)
    head, params = build_heads("reward", ScoreConfig(WIDTH, 4))
    untrained = discrimination(head, params, data, "value")
    assert untrained["auc"] == 0.5 and untrained["brier"] == 0.25  # every score is one half
    params = jax.tree.map(lambda x: jax.random.normal(jax.random.key(x.size), x.shape), params)
    scores = np.asarray(head(params, data.hidden)).round(1).clip(0.1, 0.9)
    rounded = dataclasses.replace(head, logit=lambda _, x: jnp.log(scores / (1 - scores)))
    ones, none = scores[data.value > 0], scores[data.value == 0]
    above = (ones[:, None] > none).mean() + (ones[:, None] == none).mean() / 2
    found = discrimination(rounded, params, data, "value")
    np.testing.assert_allclose(found["auc"], above, rtol=1e-6)
    np.testing.assert_allclose(found["brier"], ((scores - data.value) ** 2).mean(), rtol=1e-5)
    assert found["share"] == data.value.mean()


def test_batches_draw_every_task_alike():
    data = made()
    few = RollOuts(*(getattr(data, f.name)[:210] for f in dataclasses.fields(data)))
    few.tasks[10:] = 1
    batch = draw(few, batch=200, length=64, seed=0, step=0, kind="reward")
    places = [int(np.flatnonzero((few.hidden == one).all(1))[0]) for one in batch.hidden]
    np.testing.assert_array_equal(batch.labels, few.reward[places])
    assert 70 < sum(place < 10 for place in places) < 130
    jax.tree.map(
        np.testing.assert_array_equal,
        batch,
        draw(few, batch=200, length=64, seed=0, step=0, kind="reward"),
    )


def test_a_trained_head_is_shipped_as_it_is(tmp_path, monkeypatch):
    data = made()
    head, params = train_scores(TRAINING, data, tmp_path / "run")
    held = made(seed=1)
    found = discrimination(head, params, held, "value")
    best = np.mean((1 / (1 + np.exp(-4 * held.hidden[:, 0])) - held.value) ** 2)
    assert found["auc"] > 0.85 and found["brier"] < best + 0.04
    monkeypatch.setattr("jaxdec.training.export_tasks.roll_outs_of", lambda *_, **__: held)
    facts = export_scores(
        tmp_path / "tiny-value", "tiny-value", TRAINING, TASKS, head, params, (MODEL, PARAMS),
        Origin(about="a head", runs=["1"], command="jaxdec train tiny-value"),
    )  # fmt: skip
    assert facts["held_out_prefixes"] == 400 and len(facts["discrimination"]) == 2
    loaded = checkpoints.load_any(tmp_path / "tiny-value")
    assert (loaded.kind, loaded.target, loaded.reads) == ("value", "tiny", WIDTH)
    assert loaded.heads == head and loaded.config == TRAINING.model
    scores = jax.jit(loaded.heads)(loaded.params, held.hidden)
    assert scores.shape == (400,) and scores.dtype == jnp.float32
    assert ((scores > 0) & (scores < 1)).all()
    np.testing.assert_allclose(scores, head(params, held.hidden), atol=0.02)
    target = checkpoints.Checkpoint("tiny", MODEL, PARAMS, CONFIG, {})
    with pytest.raises(ValueError, match="'tiny-value' scores hidden states"):
        assemble(METHODS["draft"], target, draft=str(tmp_path / "tiny-value"))
    card = (tmp_path / "tiny-value" / "README.md").read_text()
    assert all(name in card for name in ("arithmetic", "countdown", facts["command"]))


@pytest.mark.slow
def test_a_search_scores_rows_by_a_head():
    """The scores of a population are the head's logits of each row's state after its last token."""
    head, params = build_heads("reward", ScoreConfig(WIDTH, 4), seed=1)
    params = jax.tree.map(lambda x: jax.random.normal(jax.random.key(x.size), x.shape), params)
    reward = search.scorers.of_hidden(head.logit, "reward")
    decoder = search.particle_filter(autoregressive(MODEL), reward, segment=search.of_length(4))
    tokens, lengths = text.encode_batch(["A1+2\n", "C1,2=3\n"], bos=True)
    result = generate(
        decoder, {"target": PARAMS, "reward": params}, tokens, lengths=lengths, rng=0,
        hypotheses=2, max_new_tokens=8, eos=(),
    )  # fmt: skip
    states = MODEL(PARAMS, Inputs.causal(result.tokens), None).hidden
    last = states[jnp.arange(4), result.lengths - 1]
    np.testing.assert_allclose(result.pool.scores, head.logit(params, last), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"kind": "medusa"}, "medusa"), ({"samples": 0}, "0"), ({"temperature": 0.0}, "0.0")],
)
def test_refusals(changes, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(TRAINING, **changes)
    wide = dataclasses.replace(TRAINING, model=ScoreConfig(WIDTH + 1))
    with pytest.raises(ValueError, match=f"width {WIDTH + 1}, got {WIDTH}"):
        train_scores(wide, made(8), tmp_path)
    with pytest.raises(ValueError, match="hidden must be at least 0"):
        ScoreConfig(WIDTH, -1)
