"""How often a decoder draws each text, for laws that can be enumerated.

Legend: V tokens, n new ones, N draws.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxdec import decoding, generation
from jaxdec.decoding import Decoder, Status
from jaxdec.model import Order, Params


def count_draws(
    decoder: Decoder,
    params: Params,
    shape: tuple[int, ...],
    *,
    first: int = 1,
    draws: int = 100_000,
    batch: int = 20_000,
    order: Order | None = None,
    **settings: Any,
) -> np.ndarray:
    """How often each text of n tokens after a prompt of one is drawn, `[V] * n`.

    Args:
      decoder: draws.
      params: by part.
      shape: `(V,) * n`.
      first: the prompt.
      draws: N, in runs of `batch` rows, seeded by their number.
      batch: rows of a run.
      order: of the batch, for a decoder that fills one; the prompt is rank 0.
      **settings: of the request, and knobs of the decoder.

    Raises:
      ValueError: if a row ends otherwise than by its budget.
    """
    length, counts = len(shape) + 1, np.zeros(shape)
    given: dict[str, Any] = {"eos": (), "temperature": 1.0, **settings}
    hypotheses = given.get("hypotheses", 1)
    prompts = np.full((batch // hypotheses, 1), first)
    request = generation.prepare(
        decoder, params, prompts, max_new_tokens=length - 1, order=order, **given
    )
    # A hundred thousand rows of a few tokens: cut the buckets to the bone.
    capacity = length + (0 if getattr(decoder, "fills_canvas", False) else decoder.width)
    request = dataclasses.replace(request, prompt=request.prompt[:, :1], capacity=capacity)
    if request.order is not None:
        cut = dataclasses.replace(request.order, places=request.order.places[:, :capacity])
        request = dataclasses.replace(request, order=cut)
    for chunk in range(draws // batch):
        state = decoding.init(decoder, params, request)
        state, _ = decoding.run(decoder, params, state, jax.random.key(chunk))
        if (np.asarray(state.rows.status) != Status.LENGTH).any():
            raise ValueError(f"rows of {length - 1} tokens end by their budget")
        np.add.at(counts, tuple(np.asarray(state.rows.tokens)[:, 1:length].T), 1)
    return counts


def distance(counts: np.ndarray, law: np.ndarray) -> tuple[float, float]:
    """The total variation of what was drawn from a law, and what that of as many draws of the law itself is expected.

        1/2 sum |counts / N - p|;   1/2 sum sqrt(2 p (1 - p) / (pi N)), the mean of the normal limit

    Args:
      counts: `[...]`, N in all.
      law: p, of the same shape.
    """
    draws = counts.sum()
    found = np.abs(counts / draws - law).sum() / 2
    expected = np.sqrt(2 * law * (1 - law) / (np.pi * draws)).sum() / 2
    return float(found), float(expected)
