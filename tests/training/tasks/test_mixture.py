"""Windows of whole documents: each is scored as it is alone, in its solution only, and none is held out."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from jaxdec import text
from jaxdec.model import Inputs, from_nnx
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.training.solving import TaskTraining, solutions, train_solver
from jaxdec.training.tasks import Arithmetic, Countdown, Sudoku, TaskMixture, is_held_out, windows

pytestmark = pytest.mark.usefixtures("quick_compilation")

TASKS = TaskMixture((Arithmetic((1, 3)), Countdown(), Sudoku()), (0.4, 0.4, 0.2))
CONFIG = TransformerConfig(
    vocab_size=text.VOCAB_SIZE, width=8, layers=1, heads=2, kv_heads=1, head_dim=4, hidden=12
)
LENGTH = 96


def packed(step=0, batch=3, seed=0):
    return windows(TASKS, batch=batch, length=LENGTH, seed=seed, step=step)


def documents(batch):
    """`(row, start, tokens)` of each document."""
    for row, tokens in enumerate(batch.tokens):
        for start in np.flatnonzero(tokens == text.BOS):
            yield row, start, tokens[start : start + 1 + list(tokens[start:]).index(text.EOS)]


def test_windows_hold_whole_documents_to_learn_from():
    batch = packed()
    held = list(documents(batch))
    assert len(held) >= 2 * len(batch.tokens)
    assert sum(len(body) for *_, body in held) == (batch.tokens != text.PAD).sum()
    for row, start, body in held:
        words = text.decode(body)
        prompt, solution = words[: words.index("\n") + 1], words[words.index("\n") + 1 :]
        task = next(task for task in TASKS.tasks if prompt.startswith(task.letter))
        assert task.check(prompt, solution) and not is_held_out(task, prompt, TASKS.held_out)
        weights = batch.weights[row, start : start + len(body) - 1]
        np.testing.assert_array_equal(weights, np.arange(1, len(body)) > len(prompt))
    assert batch.weights.sum() == sum(len(body) - 1 - list(body).index(10) for *_, body in held)


def test_windows_are_a_function_of_seed_and_step():
    one, same, other, seeded = packed(), packed(), packed(step=1), packed(seed=1)
    jax.tree.map(np.testing.assert_array_equal, one, same)
    assert (one.tokens != other.tokens).any() and (one.tokens != seeded.tokens).any()
    with pytest.raises(ValueError, match="does not fit a window of 8"):
        windows(TASKS, batch=1, length=8, seed=0, step=0)


def test_a_document_is_scored_as_it_is_alone():
    model, params = from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(0)))
    batch = packed()
    predictions = jax.jit(lambda batch: solutions(model, params, batch))(batch)
    np.testing.assert_array_equal(predictions.tokens, batch.tokens[:, 1:])
    held = list(documents(batch))
    alone = np.full((len(held), LENGTH), text.PAD, np.int32)
    for row, (*_, body) in zip(alone, held, strict=True):
        row[: len(body)] = body
    laws = jax.jit(lambda tokens: model(params, Inputs.causal(tokens), None).logits)(alone)
    for i, (row, start, body) in enumerate(held):
        count = len(body) - 1
        found = predictions.logits[row, start : start + count]
        np.testing.assert_allclose(found, laws[i, :count], rtol=1e-4, atol=1e-5)


def test_a_run_on_tasks_takes_up_where_it_was_killed(tmp_path):
    config = TaskTraining(
        model=CONFIG, mixture=TASKS, steps=4, batch=2, length=LENGTH, rows_at_once=1,
        checkpoint_every=2, warmup=1,
    )  # fmt: skip

    class KilledError(Exception):
        pass

    def kill(step, loss, seconds):
        if step == 3:
            raise KilledError

    _, whole = train_solver(config, tmp_path / "whole")
    with pytest.raises(KilledError):
        train_solver(config, tmp_path / "killed", report=kill)
    _, resumed = train_solver(config, tmp_path / "killed")
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)
    losses = [(tmp_path / name / "losses.jsonl").read_bytes() for name in ("whole", "killed")]
    assert losses[0] == losses[1]
    other = dataclasses.replace(config, mixture=TaskMixture((Sudoku(),), (1.0,)))
    with pytest.raises(ValueError, match="holds another run"):
        train_solver(other, tmp_path / "whole")
