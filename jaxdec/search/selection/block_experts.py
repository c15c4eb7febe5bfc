"""HEX: samples of one prompt in blocks of several sizes.

Legend: B prompts, N samples of each.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxdec.decoding import integers
from jaxdec.search.selection.hedged import of_samples


@dataclasses.dataclass(frozen=True)
class BlockExperts:
    """Knobs of the samples of all prompts.

    Attributes:
      samples: N.
      block: int32 `[B N]`, positions of a block.
      steps: int32 `[B N]`, steps that fill a block.
    """

    samples: int
    block: np.ndarray
    steps: np.ndarray


def block_experts(
    prompts: int,
    sizes: Sequence[int] = (8, 16, 32, 64, 128),
    *,
    seeds: int = 5,
    tokens_a_step: int = 2,
) -> BlockExperts:
    """HEX: each prompt is decoded in blocks of several sizes, several times, and the answers are voted on.

        experts = block_experts(B)
        decoder = denoise(model, unmask=unmask.in_blocks(unmask.quota("max_prob")))
        generate(decoder, ..., hypotheses=experts.samples, block=experts.block, steps=experts.steps, temperature=0.9)
        vote(ids, tie="shortest", lengths=experts.block.reshape(B, -1))

    The vote's rule of ties gives the answer that the smallest blocks found. All samples run in one program: sizes are
    knobs of rows. Sample n has the size of number n // seeds.

    Args:
      prompts: B, at least 1.
      sizes: positions of a block, each at least 1.
      seeds: samples of each size, at least 1; N = seeds * number of sizes.
      tokens_a_step: committed in each step, at least 1; a block that this does not divide takes a step more.

    Raises:
      ValueError: naming the value and the limit.

    Exactness: heuristic; each sample is the semi-autoregressive decoding of its own size, token for token.
    Source: 2510.05040. The order within a block is the policy's; finding the answers is the caller's
    (`search.extract_answers`).
    """
    samples = int(integers("seeds", seeds, [()], low=1))
    each = int(integers("tokens_a_step", tokens_a_step, [()], low=1))
    block = np.asarray(integers("sizes", sizes, [(len(tuple(sizes)),)], low=1), np.int32)
    if not block.size:
        raise ValueError("sizes must hold at least 1 size of blocks, got none")
    block = np.repeat(block, samples)
    steps = -(-block // each)
    return BlockExperts(len(block), of_samples(block, prompts), of_samples(steps, prompts))
