"""Canvases of tasks: each is scored as it is alone, behind its prompt only, and judged by the checker of its task."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdec import text, visibility
from jaxdec.diffusion import denoise, shifted, unmask
from jaxdec.model import Inputs, from_nnx
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.testing import oracles
from jaxdec.training import objectives
from jaxdec.training.filling import batches, fill
from jaxdec.training.noising import Noising
from jaxdec.training.tasks import (
    Arithmetic,
    Copy,
    Shuffle,
    SudokuGrid,
    TaskMixture,
    canvas_size,
    canvases,
    is_held_out,
    problems,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

TASKS = TaskMixture((Shuffle(), Arithmetic((1, 1)), SudokuGrid()), (0.5, 0.3, 0.2))
CONFIG = TransformerConfig(
    vocab_size=text.VOCAB_SIZE, width=8, layers=1, heads=2, kv_heads=1, head_dim=4, hidden=12
)
LENGTH = 80
BLOCKS = Noising(blocks=(4, 8), shares=(0.5, 0.5))


def held(masking, step=0):
    return batches(TASKS, batch=4, length=LENGTH, seed=0, step=step, masking=masking)


def parts(batch):
    """`(row, places)` of each canvas."""
    for row, numbers in enumerate(batch.canvases):
        for number in range(numbers.max() + 1):
            places = np.flatnonzero(numbers == number)
            if (batch.first | batch.second)[row, places].any():
                yield row, places


def test_windows_hold_whole_canvases_to_learn_from():
    batch = canvases(TASKS, batch=4, length=LENGTH, seed=0, step=0)
    kinds = set()
    for row, places in parts(held(Noising())):
        body, open_ = batch.tokens[row, places], batch.open[row, places]
        np.testing.assert_array_equal(batch.positions[row, places], np.arange(len(places)))
        start = int(np.argmax(open_))
        prompt, solution = text.decode(body[1:start]), text.decode(body[start:])
        task = next(task for task in TASKS.tasks if prompt.startswith(task.letter))
        assert body[0] == text.BOS and open_[start:].all()
        assert task.check(prompt, solution) and not is_held_out(task, prompt, TASKS.held_out)
        assert len(body) - start == canvas_size(task)
        assert (body[start + len(solution) :] == text.EOS).all() and body[-1] == text.EOS
        kinds.add(task.name)
    assert len(kinds) == 3
    same, other = held(Noising()), held(Noising(), step=1)
    jax.tree.map(np.testing.assert_array_equal, held(Noising()), same)
    assert (same.tokens != other.tokens).any()
    with pytest.raises(ValueError, match="does not fit a window of 8"):
        canvases(TASKS, batch=1, length=8, seed=0, step=0)


@pytest.mark.parametrize("masking", [Noising(), BLOCKS])
def test_what_stands_behind_a_prompt_is_masked_once_of_two_times(masking):
    rates = []
    for step in range(8):
        batch = held(masking, step)
        open_ = canvases(TASKS, batch=4, length=LENGTH, seed=0, step=step).open
        np.testing.assert_array_equal(batch.first ^ batch.second, open_)
        assert not (batch.first & batch.second).any()
        for row, places in parts(batch):
            size = int(batch.blocks[row, 0])
            of_blocks = batch.rates[row, places][np.arange(len(places)) // size * size]
            np.testing.assert_array_equal(batch.rates[row, places], of_blocks)
            rates.append(batch.rates[row, places[-1]])
    assert min(rates) < 0.2 and max(rates) > 0.8 and len(set(rates)) == len(rates)


@pytest.mark.parametrize("masking", [Noising(), BLOCKS], ids=["whole", "blocks"])
def test_a_canvas_is_scored_as_it_is_alone(masking):
    model, params = from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(0)))
    ask = objectives.block_diffusion if masking.blocks else objectives.masked_diffusion
    score = jax.jit(lambda batch: ask(model, params, batch))
    batch = held(masking)
    found = np.asarray(score(batch).logits)
    # Each canvas of the first two rows in a window of its own.
    some = [(row, places) for row, places in parts(batch) if row < 2][:4]
    alone = jax.tree.map(lambda x: np.array(x), batch)
    alone.canvases[:], alone.first[:], alone.second[:] = 1, False, False
    alone.tokens[:], alone.positions[:] = text.PAD, np.arange(LENGTH)
    for i, (row, places) in enumerate(some):
        for name in ("tokens", "first", "second", "positions", "canvases"):
            value = 0 if name == "canvases" else getattr(batch, name)[row, places]
            getattr(alone, name)[i, : len(places)] = value
        alone.blocks[i] = batch.blocks[row]
    expected = np.asarray(score(alone).logits)
    assert len(some) >= 3
    for i, (row, places) in enumerate(some):
        for copy in (0, LENGTH):
            np.testing.assert_allclose(
                found[row, copy + places], expected[i, copy : copy + len(places)], atol=1e-4
            )


@pytest.mark.slow
def test_a_canvas_is_scored_as_decoding_scores_it():
    """The whole canvas sees itself, with nothing else in the window."""
    model, params = from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(0)))
    batch = held(Noising())
    found = np.asarray(objectives.masked_diffusion(model, params, batch).logits)
    for row, places in [*parts(batch)][:3]:
        noised = np.where(batch.first, text.MASK, batch.tokens)[row, places][None]
        at = jnp.arange(len(places), dtype=jnp.int32)[None]
        own = model(params, Inputs(jnp.asarray(noised), at, *visibility.full(at)), None).logits
        np.testing.assert_allclose(found[row, places], own[0], atol=1e-4)


def test_a_shifted_model_learns_one_canvas_a_window():
    oracle, params = oracles.hash_oracle(260, seed=1)
    model = shifted(oracles.canvas(oracle, mask_token=259, lead=1))
    with pytest.raises(ValueError, match="one canvas"):
        objectives.block_diffusion(model, params, held(BLOCKS))


def knowing(tokens: dict[int, int]):
    """A canvas model that says `tokens[p]` at position p, whatever it sees."""
    oracle, params = oracles.hash_oracle(text.VOCAB_SIZE, seed=0)
    oracle = oracles.canvas(oracle, mask_token=text.MASK)
    table = np.full((64, text.VOCAB_SIZE), -20.0, np.float32)
    for position, token in tokens.items():
        table[position, token] = 20.0

    def forward(params, inputs, cache):
        output = oracle.forward(params, inputs, cache)
        at = inputs.positions
        if inputs.at is not None:
            at = jnp.take_along_axis(at, inputs.at, axis=1)
        return dataclasses.replace(output, logits=jnp.asarray(table)[at])

    return dataclasses.replace(oracle, forward=forward), params


def test_what_is_written_is_judged_and_counted():
    task = Copy((4, 4))
    held = [*problems(task, 1), *problems(task, 1, seed=1)]
    line, start = held[0].solution, 1 + len(held[0].prompt)
    model, params = knowing(
        {start + i: ord(x) for i, x in enumerate(line)}
        | {start + len(line) + i: text.EOS for i in range(3)}
    )
    decoder = denoise(model, unmask=unmask.quota("left_to_right"))
    found = fill(decoder, {"target": params}, task, held, steps=0)
    assert found.solutions == [line, line] and found.right.tolist() == [True, False]
    assert found.tokens.tolist() == [len(line) + 1] * 2 == found.forwards.tolist()
    found = fill(decoder, {"target": params}, task, held, steps=1)
    assert found.right.tolist() == [True, False] and found.forwards.tolist() == [1, 1]
