"""Policies of canvases that are trained: what they learn from, by plain loops, what they learn, how they ship."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdec import checkpoints, text, visibility
from jaxdec.diffusion import canvas_model, unmask
from jaxdec.model import Inputs, PositionHead, Sureness, from_nnx
from jaxdec.models import (
    FinalityConfig,
    Transformer,
    TransformerConfig,
    UnmaskingConfig,
    build_heads,
)
from jaxdec.testing.heads import position_head
from jaxdec.training import export_policies, finality, policies
from jaxdec.training.export import Origin
from jaxdec.training.tasks import Copy, Reverse, TaskMixture, canvas_size

pytestmark = pytest.mark.usefixtures("quick_compilation")
CONFIG = TransformerConfig(
    vocab_size=text.VOCAB_SIZE, width=8, layers=1, heads=2, kv_heads=1, head_dim=4, hidden=12
)


@dataclasses.dataclass(frozen=True)
class Anything(Copy):
    """A task of which every answer is right."""

    def check(self, prompt, solution):
        return True


TASKS = TaskMixture((Anything((5, 5)), Reverse((2, 2))), (0.7, 0.3))
RUN = dict(mixture=TASKS, target="tiny", rows_at_once=32, length=8, warmup=1, checkpoint_every=4)
TRAINING = policies.PolicyTraining(
    model=UnmaskingConfig(width=8, hidden=8, heads=1), steps=24, batch=32, group=8, updates=2,
    learning_rate=0.05, adam_learning_rate=0.05, **RUN,
)  # fmt: skip


def target():
    """Random weights, large enough that positions differ."""
    model, params = from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(3)), eos=[text.EOS])
    return canvas_model(model, text.MASK), jax.tree.map(lambda x: x * 4, params)


def test_rewards_and_the_clipped_surrogate():
    played = policies.Played(None, np.array([True, True, False]), np.array([2, 8, 1]))
    np.testing.assert_allclose(policies.rewards(played, np.full(3, 8), 2.0), [0.75**2, 0, 0])
    generator = np.random.default_rng(0)
    shape = (3, 4, 5)
    sure, masked = generator.random(shape), generator.random(shape) < 0.8
    chosen = masked & (generator.random(shape) < 0.6)
    chosen[1, 2:] = False  # two steps were taken
    old, worth = generator.normal(size=shape[:2]) - 2, np.array([0.5, -1.0, 0.25])
    seen = Sureness(*map(jnp.asarray, (sure, masked, np.ones(shape, bool), np.ones(shape[:2]))))
    head = PositionHead(lambda p, seen: p * (seen.confidence - 0.5))
    batch = policies.RollOuts(seen, jnp.asarray(chosen), jnp.asarray(old), worth)
    found = policies.surrogate(head, jnp.float32(3.0), batch, 0.2)
    total = 0.0
    for b in range(3):
        gains = []
        for s in range(4):
            if not chosen[b, s].any():
                continue
            logits = 3.0 * (sure[b, s] - 0.5)
            chance = 1 / (1 + np.exp(-logits))
            own = np.prod(np.where(chosen[b, s], chance, 1 - chance)[masked[b, s]])
            first = max(np.flatnonzero(masked[b, s]), key=lambda i: logits[i])
            if np.flatnonzero(chosen[b, s]).tolist() == [first]:
                own += np.prod((1 - chance)[masked[b, s]])
            ratio = own / np.exp(old[b, s])
            gains.append(min(ratio * worth[b], np.clip(ratio, 0.8, 1.2) * worth[b]))
        total -= np.mean(gains) / 3
    assert float(found) == pytest.approx(total, rel=1e-4)


def test_the_loss_of_a_filter_counts_positions_of_the_canvas():
    head, params = position_head("finality")
    generator = np.random.default_rng(0)
    sure, there = (
        generator.random((3, 8)).astype(np.float32),
        np.arange(8) < np.array([[8], [5], [2]]),
    )
    final = (generator.random((3, 8)) < 0.5).astype(np.float32)
    data = finality.Steps(sure, there, final)
    batch = finality.draw(data, batch=3, length=8, seed=0, step=0)
    at = np.random.default_rng((0, 0)).integers(0, 3, 3)
    logits = np.asarray(head(params, Sureness(*map(jnp.asarray, (sure, there, there, np.ones(3))))))
    each = np.logaddexp(0, np.where(final > 0, -logits, logits))[at][there[at]]
    assert float(finality.cross_entropy(head, params, batch)) == pytest.approx(
        each.mean(), rel=1e-4
    )


@pytest.mark.slow
def test_a_policy_whose_answers_are_always_right_takes_fewer_steps(tmp_path, monkeypatch):
    model, params = target()
    head, learnt = policies.train_policy(TRAINING, tmp_path / "run", (model, params))

    def killed(step, loss, seconds):
        if step == 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        policies.train_policy(TRAINING, tmp_path / "again", (model, params), report=killed)
    _, again = policies.train_policy(TRAINING, tmp_path / "again", (model, params))
    jax.tree.map(np.testing.assert_array_equal, again, learnt)
    _, fresh = build_heads("unmasking", TRAINING.model, seed=TRAINING.seed)
    run = [(TASKS.tasks[0], TASKS.tasks[0].draw(np.random.default_rng(i))) for i in range(32)]
    steps = [
        policies.play(
            unmask.learned(head), (model, params), weights, run, key=jax.random.key(1), most=8
        ).steps.mean()
        for weights in (fresh, learnt)
    ]
    assert steps[1] < steps[0] - 0.5
    monkeypatch.setattr(export_policies, "COUNT", 2)
    export_policies.export_policy(
        tmp_path / "tiny", "tiny", TRAINING, TASKS, head, learnt, (model, params),
        Origin(about="a policy", runs=["1"], command="jaxdec train tiny"),
    )  # fmt: skip
    held = checkpoints.load_any(tmp_path / "tiny")
    assert (held.kind, held.target, held.reads) == ("unmasking", "tiny", None)
    assert held.heads == head and "beta 0.5" in held.facts["policies"]


@pytest.mark.slow
def test_what_a_policy_saw_is_what_it_is_scored_on():
    """The trace of a canvas: the steps that its tokens have, from nothing to all."""
    model, params = target()
    head, own = position_head("unmasking", seed=2)
    run = [(task, task.draw(np.random.default_rng(7))) for task in TASKS.tasks for _ in range(3)]
    found = policies.play(
        unmask.learned(head), (model, params), own, run, key=jax.random.key(1), most=8
    )
    for row, (task, _) in enumerate(run):
        seen = jax.tree.map(lambda x, row=row: x[row], found.trace.seen)
        taken, size = int(found.steps[row]), canvas_size(task)
        open_ = np.arange(seen.there.shape[-1]) < size
        for step in range(taken):
            np.testing.assert_array_equal(seen.there[step], np.arange(len(open_)) < size)
            np.testing.assert_array_equal(seen.masked[step], open_)
            assert seen.time[step] == pytest.approx(1 - step / size)
            chosen = found.trace.chosen[row, step]
            assert chosen.any() and not (chosen & ~open_).any()
            open_ = open_ & ~chosen
        assert not found.trace.chosen[row, taken:].any()


def greedy_twin(model, params, task, problem):
    """The steps of extremely greedy parallel decoding in a plain loop: confidences and labels."""
    prompt = [text.BOS, *problem.prompt.encode()]
    size = len(prompt) + canvas_size(task)
    places = jnp.arange(size)[None]
    spans = visibility.full(places)

    def laws(row):
        tokens = jnp.array([[text.MASK if t is None else t for t in row]])
        logits = np.array(model(params, Inputs(tokens, places, *spans), None).logits[0], np.float64)
        logits[:, text.MASK] = -np.inf
        law = np.exp(logits - logits.max(-1, keepdims=True))
        logits[:, [text.BOS, text.PAD]] = -np.inf
        return (law / law.sum(-1, keepdims=True)).max(-1)[len(prompt) :], logits

    row = [*prompt, *[None] * canvas_size(task)]
    while None in row:
        sure, logits = laws(row)
        at = max(
            (i for i, t in enumerate(row) if t is None), key=lambda i: (sure[i - len(prompt)], -i)
        )
        row[at] = int(logits[at].argmax())
    answer, row, before, found = (
        row[len(prompt) :],
        [*prompt, *[None] * canvas_size(task)],
        None,
        [],
    )
    while None in row:
        sure, logits = laws(row)
        best = logits[len(prompt) :].argmax(-1)
        if before is not None and (best == before).all():
            break
        found.append((sure, best == answer))
        for i in np.flatnonzero(best == answer):
            row[len(prompt) + i] = answer[i]
        before = best
    return found


@pytest.mark.slow
def test_the_steps_of_the_oracle():
    model, params = target()
    run = [(task, task.draw(np.random.default_rng(i))) for i, task in enumerate(TASKS.tasks * 2)]
    found = finality.oracle_steps((model, params), run, most=8, window=10)
    expected = [step for one in run for step in greedy_twin(model, params, *one)]
    assert len(found.final) == len(expected) > 6
    stuck = 0
    for i, (sure, final) in enumerate(expected):
        size = len(sure)
        np.testing.assert_allclose(found.confidence[i, :size], sure, rtol=1e-3)
        np.testing.assert_array_equal(found.final[i, :size] > 0, final)
        assert found.there[i].sum() == size
        stuck += not final.any()
    assert len({one.tobytes() for one in found.final}) > 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(group=5), "group must be at least 2 and divide batch 32, got 5"),
        (dict(updates=5), "updates must divide steps 24 and checkpoint_every 4, got 5"),
        (dict(alpha=-1.0), "alpha must be at least 0"),
        (dict(length=4), "canvases of 7, got 4"),
    ],
)
def test_refusals(changes, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(TRAINING, **changes)
    with pytest.raises(ValueError, match="must fit length 8, and that the window of 4"):
        finality.FinalityTraining(model=FinalityConfig(4), steps=1, **{**RUN, "batch": 32})
