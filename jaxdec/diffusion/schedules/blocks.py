"""Blocks from left to right."""

from jaxdec.diffusion.schedules.schedule import Schedule


def blocks(size: int, *, within: int | None = None, from_start: bool = False) -> Schedule:
    """Blocks from left to right: `group(i) = i // size`; semi-autoregressive decoding.

    Args:
      size: positions of a block.
      within: the size of larger blocks that these are parts of (sub-blocks, 2509.26328); divisible by `size`.
        Attention and caches then go by the larger ones.
      from_start: count from the start of the sequence, as block-causal models are trained, rather than from the end
        of the prompt.

    Raises:
      ValueError: for sizes below 1 or that do not divide.

    Source: LLaDA 2502.09992 (from the prompt's end); BD3-LM 2503.09573 and SDAR 2510.06303 (from the start).
    """
    if size < 1:
        raise ValueError(f"blocks need at least 1 position, got {size}")
    if within is not None and (within < size or within % size):
        raise ValueError(f"sub-blocks of {size} positions do not divide blocks of {within}")
    return Schedule(size=size, unit=within, from_start=from_start)
