"""How tokens are drawn from the laws of a pipeline: noise by row and place, or by a watermark's secret.

Legend: B rows, V vocabulary.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdec.sampling.noise import Purpose, gumbel, key_at, perturbed_argmax
from jaxdec.sampling.watermarks.contract import KeySequence


class Drawing:
    """The part of `Warp` that draws: of its stages the temperature and the watermark."""

    temperature: ArrayLike | None
    watermark: Any

    @property
    def draws_by_key(self) -> bool:
        """Whether tokens are drawn with noise of a secret, so that no other draw may take their place. Static."""
        return isinstance(self.watermark, KeySequence)

    def noise(self, keys: Callable[[], jax.Array], shape: tuple[int, ...]) -> jax.Array:
        """Gumbel noise to draw from `log_probs` with; neither keys nor noise are computed while no row samples.

        Args:
          keys: makes the keys `shape[:-1]`.
          shape: `[B, ..., V]`.

        Returns:
          float32 of that shape; zeros if every temperature is 0, where the law is one-hot and noise decides nothing.
        """
        return self._sampled(lambda: gumbel(keys(), shape[-1]), shape)

    def token_noise(self, keys: jax.Array, places: jax.Array, vocab_size: int) -> jax.Array:
        """The noise of the tokens at some places of rows, to `draw` them with: that of the watermark, if there is one.

        Args:
          keys: row keys `[B]`.
          places: int32 `[B, ...]`, absolute positions or ranks.
          vocab_size: V.

        Returns:
          float32 `[B, ..., V]`; zeros as in `noise`.
        """
        shape, mark = (*places.shape, vocab_size), self.watermark
        if isinstance(mark, KeySequence):
            return self._sampled(lambda: mark.noise(keys, places, vocab_size), shape)
        return self.noise(lambda: key_at(keys, Purpose.TOKEN, places), shape)

    def settled(self, log_probs: jax.Array, noise: jax.Array) -> jax.Array:
        """Noise as it is added to a law of this pipeline: as it is, but where a watermark draws otherwise.

        The token of a law p and `token_noise` g is  argmax [log p + settled(log p, g)];  a drafter that shares the
        noise adds this to its own laws.

        Args:
          log_probs: float32 `[B, ..., V]`.
          noise: float32 `[B, ..., V]`.

        Returns:
          float32 `[B, ..., V]`.
        """
        mark = self.watermark
        return mark.settled(log_probs, noise) if isinstance(mark, KeySequence) else noise

    def draw(self, log_probs: jax.Array, noise: jax.Array) -> jax.Array:
        """The token of each law and its `token_noise`, int32 `[B, ...]`: a draw from the law."""
        return perturbed_argmax(log_probs, self.settled(log_probs, noise))

    def _sampled(self, draw: Callable[[], jax.Array], shape: tuple[int, ...]) -> jax.Array:
        """What `draw` gives; zeros if no row samples."""
        if self.temperature is None:
            return draw()
        sampled = jnp.any(jnp.asarray(self.temperature) > 0)
        return jax.lax.cond(sampled, draw, lambda: jnp.zeros(shape, jnp.float32))
