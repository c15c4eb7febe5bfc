"""What a checkpoint that restores masks has to agree with: a forward without a cache, and decoding as a plain loop.

A twin is a function of the tokens of one row `[L]` and of who sees whom, bool `[L, L]`, to logits `[L, V]`.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import generation, visibility
from jaxdec.diffusion import denoise, refresh, schedules, unmask
from jaxdec.model import Inputs
from jaxdec.models import huggingface

LENGTHS = np.array([9, 4, 6])
BUDGET = 13
THRESHOLD = 0.3


def prompts(vocab_size, mask):
    """Three rows; the mask is none of their tokens."""
    tokens = np.random.default_rng(0).integers(0, vocab_size - 1, (3, LENGTHS.max()))
    return tokens + (tokens >= mask)


def visible(length, block):
    """Who sees whom: all in blocks of `block` from the start and what is before; everybody for None."""
    unit = np.arange(length) // (block or length)
    return unit[None, :] <= unit[:, None]


def laws(twin, tokens, block, ahead):
    """The laws of the token at each place, `[L, V]`."""
    logits = np.asarray(twin(tokens, visible(len(tokens), block)), np.float64)
    return np.concatenate([logits[:1], logits[:-1]]) if ahead else logits


def decoded(twin, prompt, mask, block, ahead, first):
    """A row decoded greedily, block by block: all above the threshold and the surest; and the forwards it takes."""
    tokens = np.concatenate([prompt, np.full(BUDGET, mask)])
    open_, forwards = np.arange(len(tokens)) >= len(prompt), 0
    while open_.any():
        size = block or len(tokens)
        unit = np.arange(len(tokens)) // size
        now = np.flatnonzero(open_ & (unit == unit[open_].min()))
        law = laws(twin, np.where(open_, mask, tokens), block, ahead)[now]
        law[:, mask] = -np.inf
        law = np.exp(law - law.max(-1, keepdims=True))
        sure = (law / law.sum(-1, keepdims=True)).max(-1)
        chosen = (sure > THRESHOLD) | (np.arange(len(now)) == sure.argmax())
        if first and now[0] % size == 0:
            chosen = np.arange(len(now)) == 0
        tokens[now[chosen]], open_[now[chosen]] = law.argmax(-1)[chosen], False
        forwards += 1
    return tokens.tolist(), forwards


def check(folder, twin, *, mask, block=None, ahead=False, first=False):
    """A checkpoint's logits and tokens are the twin's, and it is written back as it was.

    Args:
      folder: of the checkpoint.
      twin: a forward of the same weights.
      mask: its mask token.
      block: its blocks; None for a canvas on which all see all.
      ahead: whether its rows predict the next position.
      first: whether the first token of a block is committed by itself.
    """
    loaded = huggingface.load(folder)
    assert loaded.fills.mask_token == mask and loaded.fills.block_size == block
    assert loaded.fills.kind == ("canvas" if block is None else "blocks")
    _check_logits(loaded, twin, mask, block, ahead)
    _check_tokens(loaded, twin, mask, block, ahead, first)
    _check_written(folder, loaded)


def _check_logits(loaded, twin, mask, block, ahead):
    tokens = prompts(loaded.model.vocab_size, mask)
    tokens[:, ::3] = mask
    places = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
    spans = visibility.block_causal(jnp.asarray(places // (block or tokens.shape[1]), jnp.int32))
    spans = spans.where(jnp.asarray(places < LENGTHS[:, None]))
    inputs = Inputs(jnp.asarray(tokens, jnp.int32), jnp.asarray(places, jnp.int32), *spans)
    forward = jax.jit(lambda params, inputs: loaded.model(params, inputs).logits)
    found = np.asarray(forward(loaded.params, inputs))
    for row, length in enumerate(LENGTHS):
        expected = laws(twin, tokens[row, :length], block, ahead)
        assert np.abs(expected[np.isfinite(expected)]).max() > 1
        finite = np.where(np.isneginf(found[row, :length]), -1e9, found[row, :length])
        expected = np.where(np.isneginf(expected), -1e9, expected)
        np.testing.assert_allclose(finite, expected, rtol=1e-4, atol=1e-4)


def _check_tokens(loaded, twin, mask, block, ahead, first):
    policy = unmask.threshold(THRESHOLD)
    options = {}
    if block is not None:
        options = dict(
            schedule=schedules.blocks(block, from_start=True),
            attention="causal",
            refresh=refresh.block(),
        )
    if first:
        policy = unmask.first_alone(policy)
    decoder = denoise(loaded.model, unmask=policy, **options)
    tokens = prompts(loaded.model.vocab_size, mask)
    result = generation.generate(
        decoder,
        {"target": loaded.params},
        tokens,
        lengths=LENGTHS,
        max_new_tokens=BUDGET,
        rng=0,
        temperature=0.0,
        eos=(),
    )
    for row, length in enumerate(LENGTHS):
        expected, forwards = decoded(twin, tokens[row, :length], mask, block, ahead, first)
        assert np.asarray(result.tokens)[row, : length + BUDGET].tolist() == expected, row
        assert int(result.stats.target_forwards[row]) == forwards, row
    assert int(result.stats.target_forwards.sum()) < len(LENGTHS) * BUDGET


def _check_written(folder, loaded):
    from safetensors.numpy import load_file

    again = folder.parent / f"{folder.name}-again"
    huggingface.save(again, loaded.params, loaded.config, loaded.architecture, fields=loaded.fields)
    first, second = (
        {name: x for part in place.glob("*.safetensors") for name, x in load_file(part).items()}
        for place in (folder, again)
    )
    assert {*first} == {*second}
    for name, tensor in first.items():
        np.testing.assert_array_equal(second[name], tensor, name)
    fields = [json.loads((place / "config.json").read_text()) for place in (folder, again)]
    kept = {name: fields[1].get(name) for name in ("model_type", "mask_token_id", "block_size")}
    assert kept == {name: fields[0].get(name) for name in kept} | {
        "mask_token_id": kept["mask_token_id"]
    }
    assert huggingface.load(again).fills.mask_token == loaded.fills.mask_token
