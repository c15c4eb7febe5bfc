"""Rotary positions: pairs of numbers of a head turned by angles that grow with the position.

Legend: B rows, T new tokens, d width of a head.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.arguments import check_fields

KINDS = ("linear", "llama3", "yarn")


@dataclasses.dataclass(frozen=True)
class Scaling:
    """How rotary frequencies are changed for sequences longer than those of pretraining.

    With wavelength w of a frequency f, factor s and original length L:

    - `"linear"`: f / s for all.
    - `"llama3"`: f where w < L / high, f / s where w > L / low, and between them
      `(1 - m) f / s + m f`, `m = (L / w - low) / (high - low)`.
    - `"yarn"` (2309.00071): `(1 - m_i) f_i / s + m_i f_i`, with m falling from 1 to 0 linearly in the pair's index i
      between the pairs that turn `fast` and `slow` times over L; queries and keys are multiplied by
      `attention_factor`, `0.1 ln(s) + 1` if not given.

    Attributes:
      kind: one of those.
      factor: s >= 1.
      original_length: L, positions of pretraining.
      low: turns over L below which a frequency is scaled whole (llama3).
      high: turns above which it is left alone (llama3).
      slow: as `low`, for yarn.
      fast: as `high`, for yarn.
      attention_factor: of yarn.
      truncate: whether yarn's limits are rounded to whole pairs.
    """

    kind: str
    factor: float
    original_length: int = 8192
    low: float = 1.0
    high: float = 4.0
    slow: float = 1.0
    fast: float = 32.0
    attention_factor: float | None = None
    truncate: bool = True

    def __post_init__(self):
        check_fields(self)
        if self.kind not in KINDS:
            raise ValueError(f"rotary frequencies are scaled by one of {KINDS}, got {self.kind!r}")
        if not self.factor >= 1:
            raise ValueError(
                f"the factor of rotary frequencies must be at least 1, got {self.factor}"
            )

    @property
    def magnitude(self) -> float:
        """What queries and keys are multiplied by."""
        if self.kind != "yarn":
            return 1.0
        given = self.attention_factor
        return 0.1 * math.log(self.factor) + 1.0 if given is None else given

    def scaled(self, frequencies: np.ndarray, theta: float, width: int) -> np.ndarray:
        """The scaled frequencies, float64 `[width / 2]` as those given."""
        if self.kind == "linear":
            return frequencies / self.factor
        if self.kind == "llama3":
            turns = self.original_length * frequencies / (2 * math.pi)
            kept = np.clip((turns - self.low) / (self.high - self.low), 0.0, 1.0)
        else:
            at = lambda turns: (
                width
                * math.log(self.original_length / (turns * 2 * math.pi))
                / (2 * math.log(theta))
            )
            first, last = at(self.fast), at(self.slow)
            if self.truncate:
                first, last = math.floor(first), math.ceil(last)
            first, last = max(first, 0), min(last, width - 1)
            ramp = (np.arange(width // 2) - first) / max(last - first, 1e-3)
            kept = 1.0 - np.clip(ramp, 0.0, 1.0)
        return kept * frequencies + (1 - kept) * frequencies / self.factor


@dataclasses.dataclass(frozen=True)
class Rotary:
    """Turns pairs `(x_i, x_{i + w/2})` of the first w numbers of each head by `position f_i`, `f_i = theta^(-2i/w)`.

    Attributes:
      theta: base of the frequencies.
      width: w, even; None for all of a head.
      scaling: of the frequencies; None for none.
    """

    theta: float = 10000.0
    width: int | None = None
    scaling: Scaling | None = None

    def __post_init__(self):
        if isinstance(self.scaling, dict):
            object.__setattr__(self, "scaling", Scaling(**self.scaling))
        check_fields(self)

    def __call__(self, x: jax.Array, positions: jax.Array) -> jax.Array:
        """Turned heads.

        Args:
          x: `[B, heads, T, d]`.
          positions: int32 `[B, T]`.
        """
        width = x.shape[-1] if self.width is None else self.width
        half = width // 2
        frequencies = jnp.float32(self.theta) ** (-jnp.arange(half, dtype=jnp.float32) / half)
        magnitude = 1.0
        if self.scaling is not None:
            exact = self.theta ** (-np.arange(half) / half)
            frequencies = jnp.asarray(self.scaling.scaled(exact, self.theta, width), jnp.float32)
            magnitude = self.scaling.magnitude
        angles = positions[:, None, :, None].astype(jnp.float32) * frequencies
        cos, sin = jnp.cos(angles), jnp.sin(angles)
        if magnitude != 1.0:
            cos, sin = cos * magnitude, sin * magnitude
        first, second, rest = x[..., :half], x[..., half:width], x[..., width:]
        turned = [first * cos - second * sin, second * cos + first * sin]
        return jnp.concatenate([*(y.astype(x.dtype) for y in turned), rest], axis=-1)
