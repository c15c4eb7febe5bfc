"""What a shifted model decodes: the same as one whose laws stand at their places, where both see the same."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import generation
from jaxdec.diffusion import denoise, refresh, schedules, shifted, unmask
from jaxdec.testing import oracles
from jaxdec.testing.parts.canvas import BUDGET, LENGTHS, PROMPTS, VOCAB

_POLICY = unmask.threshold(0.4)
_BLOCKS: dict[str, Any] = dict(schedule=schedules.blocks(8), unmask=_POLICY)
_CAUSAL: dict[str, Any] = dict(attention="causal", unmask=unmask.left_to_right())
SHIFTED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "whole": (dict(unmask=_POLICY), {}),
    "blocks, dual": (dict(_BLOCKS, refresh=refresh.dual(3)), {}),
    "blocks, prefix": (dict(_BLOCKS, refresh=refresh.prefix(), branches=2), {}),
    "scattered, dual": (
        dict(
            schedule=schedules.partition(np.arange(30) * 7 % 30 // 4),
            unmask=_POLICY,
            refresh=refresh.dual(),
        ),
        {},
    ),
    "guided, frozen": (dict(_BLOCKS, refresh=refresh.frozen(), guided=True), {"guidance": 0.5}),
    "causal, block": (
        dict(_CAUSAL, schedule=schedules.blocks(8, from_start=True), refresh=refresh.block()),
        {},
    ),
    "sub-blocks": (
        dict(
            _CAUSAL,
            schedule=schedules.blocks(4, within=8, from_start=True),
            refresh=refresh.sub_block(2),
            branches=2,
        ),
        {},
    ),
}
"""Parts of `denoise`, and knobs: where all see all, and from left to right, where a block's first law, which sees
nothing of the block, has nothing of it to see."""


def check_shifted(name: str) -> None:
    """An oracle whose rows predict one position ahead decodes, shifted, what the one that predicts in place does.

    Args:
      name: of `SHIFTED`.
    """
    oracle, table = oracles.hash_oracle(VOCAB, scale=1.5)
    options, knobs = SHIFTED[name]
    one, two = (
        generation.generate(
            denoise(model, **options),
            {"target": table},
            PROMPTS,
            lengths=LENGTHS,
            max_new_tokens=jnp.asarray(BUDGET),
            rng=jax.random.key(7),
            eos=(),
            temperature=np.array([0.0, 0.8, 1.0]),
            **knobs,
        )
        for model in (oracles.canvas(oracle), shifted(oracles.canvas(oracle, lead=1)))
    )
    for field in ("tokens", "lengths", "steps", "codes"):
        found, wanted = (np.asarray(getattr(result, field)) for result in (two, one))
        np.testing.assert_array_equal(found, wanted, f"{name}: {field}")
    for field in ("log_probs", "raw_log_probs"):
        found, wanted = (np.asarray(getattr(result, field)) for result in (two, one))
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4, err_msg=f"{name}: {field}")
