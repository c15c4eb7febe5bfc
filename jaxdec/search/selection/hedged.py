"""Hedged sampling: one greedy sample beside the drawn ones, and settings that differ between the samples of a prompt.

Legend: B prompts, N samples of each.
"""

from typing import Any

import numpy as np

from jaxdec.decoding import integers
from jaxdec.sampling import as_array, shown


def hedged_temperatures(
    prompts: int, samples: int, temperature: Any = 0.7, greedy: int = 1
) -> np.ndarray:
    """Temperatures of a hedged pool: 0 for the first samples of each prompt, one temperature for the others.

        generate(..., hypotheses=N, temperature=hedged_temperatures(B, N, tau))

    With N = 1 it is greedy decoding. Choose among the samples by `mbr`, `best_of_n` or a vote.

    Args:
      prompts: B, at least 1.
      samples: N, at least 1.
      temperature: of the others, `[]` or one a prompt `[B]`, at least 0.
      greedy: how many are greedy, in [0, N].

    Returns:
      float32 `[B N]`, sample n of prompt b at b N + n.

    Raises:
      ValueError: naming the value and the limit.

    Exactness: heuristic as a rule of choice; each sample has the law of its own temperature.
    Source: "When Life Gives You Samples", 2506.20544.
    """
    prompts = int(integers("prompts", prompts, [()], low=1))
    samples = int(integers("samples", samples, [()], low=1))
    greedy = int(integers("greedy", greedy, [()], low=0, high=samples))
    given = as_array("temperature", temperature, "numbers")
    if given.dtype.kind not in "iuf" or given.shape not in ((), (prompts,)):
        raise ValueError(f"temperature must be one number or {prompts}, got {shown(temperature)}")
    if not (np.isfinite(given) & (given >= 0)).all():
        raise ValueError(f"temperature must be finite and at least 0, got {shown(temperature)}")
    pool = np.repeat(np.broadcast_to(given, (prompts,)).astype(np.float32)[:, None], samples, 1)
    pool[:, :greedy] = 0
    return pool.reshape(-1)


def of_samples(values: Any, prompts: int) -> np.ndarray:
    """One value of each sample number for the samples of all prompts, as `generate(hypotheses=N)` takes knobs.

        result[b N + n] = values[n]

    Args:
      values: `[N, ...]`, numbers of any knob.
      prompts: B, at least 1.

    Returns:
      `[B N, ...]`.

    Raises:
      ValueError: if there is no axis of samples, or no prompt.
    """
    prompts = int(integers("prompts", prompts, [()], low=1))
    given = as_array("values", values, "an array [N, ...]")
    if not given.ndim:
        raise ValueError(f"values must have shape [N, ...], got one value, {shown(values)}")
    return np.tile(given, (prompts, *[1] * (given.ndim - 1)))
