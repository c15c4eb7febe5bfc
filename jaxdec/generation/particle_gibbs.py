"""Particle Gibbs: particle filters in turn, each of which keeps a trajectory of the one before.

Legend: P prompts, H hypotheses of a prompt (particles), F new tokens at most.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.generation.generate import generate
from jaxdec.generation.result import Result
from jaxdec.model import Params
from jaxdec.sampling import as_key, gumbel
from jaxdec.search import REFERENCE, Population


def references(result: Result, hypotheses: int, rng: jax.Array) -> np.ndarray:
    """A trajectory of each prompt, drawn by the weights of the final particles.

    Args:
      result: of `generate` with a population.
      hypotheses: H.
      rng: one key.

    Returns:
      int `[P]`, hypotheses; the first of those with the largest weight where none is above 0.
    """
    weights = jnp.reshape(result.pool.log_weights, (-1, hypotheses))
    noise = gumbel(jax.random.split(rng, len(weights)), hypotheses)
    return np.asarray(jnp.argmax(weights + noise, axis=1))


def forced(result: Result, chosen: np.ndarray, hypotheses: int, width: int) -> np.ndarray:
    """The `forced_prefix` under which hypothesis 0 of each prompt is a trajectory of a result.

    Args:
      result: of `generate`.
      chosen: int `[P]`, hypotheses.
      hypotheses: H.
      width: F.

    Returns:
      int32 `[P H, F]`, -1 for free places.
    """
    table = np.full((len(chosen) * hypotheses, width), -1, np.int32)
    tokens, lengths = np.asarray(result.tokens), np.asarray(result.lengths)
    starts = np.asarray(result.prompt_lengths)
    for prompt, hypothesis in enumerate(chosen):
        row = prompt * hypotheses + int(hypothesis)
        new = tokens[row, starts[row] : lengths[row]]
        table[prompt * hypotheses, : len(new)] = new
    return table


def particle_gibbs(
    decoder: Population,
    params: Params,
    prompt: Any,
    *,
    iterations: int,
    hypotheses: int,
    rng: Any,
    max_new_tokens: int,
    **options: Any,
) -> list[Result]:
    """Particle Gibbs: after each filter a trajectory is drawn, which passes the next one beside H - 1 new ones.

    Args:
      decoder: of `jaxdec.search.conditional_filter`.
      params: parameters by part name.
      prompt: as of `generate`.
      iterations: filters that are run; 1 is a particle filter.
      hypotheses: H, at least 2 for more than one iteration.
      rng: one key or seed; each filter has a fold of it.
      max_new_tokens: F, one for all prompts.
      **options: further arguments of `generate`.

    Returns:
      The result of each filter; hypothesis 0 is the reference in all but the first, its `log_probs` 0, as its tokens
      are given.

    Raises:
      ValueError: for less than one iteration, or one hypothesis in more.

    Exactness: heuristic. All filters are one compiled program.
    Source: 2502.01618; there the score of the reference is read one step ahead of the others', which we do not follow.
    """
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    if hypotheses < 2 <= iterations:
        raise ValueError(
            f"hypotheses is {hypotheses}; a reference and something new need at least 2"
        )
    key = as_key(rng)
    prompts = len(prompt)
    table = np.full((prompts * hypotheses, max_new_tokens), -1, np.int32)
    found: list[Result] = []
    for iteration in range(iterations):
        key, own, draw = jax.random.split(key, 3)
        knobs: dict[str, Any] = {REFERENCE: int(iteration > 0), **options}
        result = generate(
            decoder,
            params,
            prompt,
            rng=own,
            hypotheses=hypotheses,
            max_new_tokens=max_new_tokens,
            forced_prefix=table,
            **knobs,
        )
        found.append(result)
        table = forced(result, references(result, hypotheses, draw), hypotheses, max_new_tokens)
    return found
