"""The decoders that are fuzzed: of each family, on tiny oracles, with all settings present so that few programs serve.

Legend: B rows, V vocabulary.
"""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

import jaxdec
from jaxdec import any_subset, diffusion, drafters, growth
from jaxdec.speculative import RankTree
from jaxdec.testing import oracles
from jaxdec.testing.battery import cases

V = cases.VOCAB
MODEL, PARAMS = cases.pair(seed=3)
PROMPTED = ("plain", "chain", "tree")
FILLING = ("in order", "self-draft", "chain of fills")
CANVASES = ("canvas", "blocks")


@dataclasses.dataclass(frozen=True)
class Bad:
    """A call that is wrong.

    Attributes:
      decoder: its name.
      options: that differ from those of a call that is right.
      words: of the message.
      inferred: whether a network has to be asked.
    """

    decoder: str
    options: dict[str, Any]
    words: tuple[str, ...]
    inferred: bool = False


@dataclasses.dataclass(frozen=True)
class Strange:
    """A call with one argument that is anything."""

    decoder: str
    name: str
    value: Any


@functools.cache
def decoder(name: str) -> Any:
    """A decoder by name."""
    canvas = oracles.canvas(MODEL, mask_token=cases.NEVER)
    draft = lambda **options: drafters.model(MODEL, **options)
    make = {
        "plain": lambda: jaxdec.autoregressive(MODEL),
        "chain": lambda: jaxdec.speculative(MODEL, drafter=draft(length=3)),
        "tree": lambda: jaxdec.speculative(
            MODEL, drafter=draft(growth=growth.fixed(RankTree.branching((2, 2))))
        ),
        "in order": lambda: jaxdec.autoregressive(MODEL),
        "self-draft": lambda: any_subset.assd(MODEL),
        "chain of fills": lambda: jaxdec.speculative(MODEL, drafter=draft(length=2)),
        "canvas": lambda: jaxdec.denoise(canvas),
        "blocks": lambda: jaxdec.denoise(
            canvas,
            schedule=diffusion.schedules.blocks(4),
            attention="causal",
            unmask=diffusion.unmask.dynamic_threshold(),
            refresh=diffusion.refresh.block(),
        ),
    }
    return make[name]()


def parts(name: str) -> tuple[str, ...]:
    """The names that a decoder needs in its parameters."""
    return ("target", "draft") if "chain" in name or name == "tree" else ("target",)


def same(whole: Any, row: slice, alone: Any) -> None:
    """Raises `AssertionError` unless some rows of a result are a result of their own: bit for bit, but for likelihoods.

    Args:
      whole: pytree of arrays `[B, ...]`.
      row: of `whole`.
      alone: pytree of arrays of as many rows.
    """
    for field in dataclasses.fields(whole):
        one, other = (getattr(found, field.name) for found in (whole, alone))
        for held, expected in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            cut, expected = np.asarray(held)[row], np.asarray(expected)
            if cut.ndim > 1:  # buffers may be wider where others are longer; what is over is empty
                width = min(cut.shape[1], expected.shape[1])
                cut, expected = cut[:, :width], expected[:, :width]
            near = (
                cut.dtype == np.float32
            )  # by programs of another shape: the last digit may differ
            equal = near and np.allclose(cut, expected, rtol=1e-6, atol=1e-5, equal_nan=True)
            assert equal or cut.tobytes() == expected.tobytes(), (
                f"{field.name} differs from the row alone: {cut.tolist()} and {expected.tolist()}"
            )
