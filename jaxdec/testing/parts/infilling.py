"""Gaps: the lattice order, results by position, and densities, against loops; and drafts that must be accepted."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxdec
from jaxdec import any_subset
from jaxdec.decoding import Status
from jaxdec.model import Model
from jaxdec.sampling import row_keys
from jaxdec.testing import oracles
from jaxdec.testing.parts.controls import PERIOD, sequence_oracle
from jaxdec.testing.twin import python_twin

LENGTH = 11
SIZES = np.array([11, 9, 6])
VISIBLE = np.random.default_rng(1).random((3, LENGTH)) < [[0.2], [0.5], [0.7]]
VISIBLE[:, 0], VISIBLE[:, 3] = True, False


def check_lattice() -> None:
    """Visible positions come first and the gaps after them, both from left to right; positions past the end never."""
    order = any_subset.lattice(VISIBLE, SIZES)
    ranks = np.asarray(any_subset.lattice_ranks(jnp.asarray(VISIBLE)))
    for row, size in enumerate(SIZES):
        shown = [i for i in range(size) if VISIBLE[row, i]]
        wanted = shown + [i for i in range(size) if not VISIBLE[row, i]]
        found = np.asarray(order.places)[row, :size].tolist()
        assert found == wanted, f"row {row}: order {found}, not {wanted}"
        assert int(order.visible[row]) == len(shown) and int(order.size[row]) == size
        whole = sorted(range(LENGTH), key=lambda i: (not VISIBLE[row, i], i))
        assert ranks[row].tolist() == np.argsort(whole).tolist(), f"row {row}: ranks {ranks[row]}"


def check_infill() -> None:
    """`infill` lays out by position what a Python loop writes by rank, and `log_prob` gives the same laws at once."""
    vocab = 6
    model, params = oracles.hash_oracle(vocab, seed=4)
    tokens = np.random.default_rng(2).integers(0, vocab, (3, LENGTH))
    rng = jax.random.key(5)
    decoder = jaxdec.autoregressive(model)
    result = jaxdec.infill(
        decoder, {"target": params}, tokens, VISIBLE, sizes=SIZES, rng=rng, temperature=0.9
    )
    order, keys = any_subset.lattice(VISIBLE, SIZES), row_keys(rng, 3)
    for row, size in enumerate(SIZES):
        places, visible = np.asarray(order.places)[row, :size], int(order.visible[row])
        twin = python_twin(
            model,
            params,
            tokens[row, places[:visible]].tolist(),
            keys[row],
            max_new_tokens=int(size) - visible,
            places=places.tolist(),
            width=16,
            temperature=0.9,
        )
        gaps = places[visible:]
        wanted = {
            "tokens": np.zeros(LENGTH, int),
            "known": np.arange(LENGTH) < size,
            "ranks": np.full(LENGTH, -1),
            "raw_log_probs": np.zeros(LENGTH),
            "log_probs": np.zeros(LENGTH),
        }
        wanted["tokens"][places], wanted["ranks"][places] = twin.tokens, np.arange(size)
        wanted["raw_log_probs"][gaps] = twin.raw_log_probs
        wanted["log_probs"][gaps] = twin.log_probs
        for name, values in wanted.items():
            got = np.asarray(getattr(result, name))[row]
            np.testing.assert_allclose(got, values, atol=1e-4, err_msg=f"{name} of row {row}")
        assert result.status[row] is Status.LENGTH
    density = any_subset.log_prob(model, params, result.tokens, order)
    np.testing.assert_allclose(density, result.raw_log_probs, atol=1e-4, err_msg="log_prob")
    # A row that is cut short: what was not filled is not known.
    eos = [int(np.asarray(result.tokens)[0][~VISIBLE[0]][1])]
    short = jaxdec.infill(
        decoder, {"target": params}, tokens, VISIBLE, sizes=SIZES, rng=rng, temperature=0.9, eos=eos
    )
    for row, size in enumerate(SIZES):
        places, visible = np.asarray(order.places)[row, :size], int(order.visible[row])
        texts = np.asarray(result.tokens)[row, places].tolist()
        ends = [i + 1 for i in range(visible, size) if texts[i] in eos]
        known = set(places[: min(ends, default=size)].tolist())
        found = set(np.flatnonzero(np.asarray(short.known)[row]).tolist())
        assert found == known, f"row {row}: {sorted(found)} are known, not {sorted(known)}"


def check_perfect_infill(make: Callable[[Model], Any], tokens_a_step: float) -> None:
    """On a text that is known by position, drafts that the target makes for itself are right.

    Args:
      make: `model -> decoder` over a model that answers queries.
      tokens_a_step: on average at least, the first step included.
    """
    text = list(PERIOD) * 5
    model, params = sequence_oracle(text, 3)
    model = dataclasses.replace(model, any_subset=True)
    visible = np.arange(30)[None] % 7 == 0
    gaps = int((~visible).sum())
    result = jaxdec.infill(
        make(model),
        {"target": params},
        np.array([text]),
        visible,
        rng=jax.random.key(0),
        temperature=0.0,
    )
    np.testing.assert_array_equal(np.asarray(result.tokens)[0], text)
    steps = int(np.asarray(result.steps).max()) + 1
    rate = gaps / steps
    assert rate >= tokens_a_step - 1e-9, f"{rate:.2f} tokens a step, not {tokens_a_step}"
