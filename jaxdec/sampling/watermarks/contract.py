"""What a watermark is to the pipeline: noise that is known to whoever has the secret, or a bias of the logits.

Legend: B rows, V vocabulary, n rows of the key, m tokens of a text.
"""

import abc
import dataclasses
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.sampling.limits import Limit, as_array, checked_knob, is_traced, shown
from jaxdec.sampling.noise import Purpose, key_at

IMPLEMENTATION = "threefry2x32"
"""Of the keys of secrets: a text is read with the generator that it was written with, whatever JAX is set to."""
LONGEST = 1 << 28
_LENGTH = Limit(
    lambda value: (value >= 1) & (value <= LONGEST),
    f"an integer in [1, {LONGEST}]",
    integer=True,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watermark(abc.ABC):
    """What is drawn into a text; see the subclasses.

    Attributes:
      secret: a key of `jax.random.key`, or an integer seed in [0, 2^32), which is quickly guessed; one for all rows or
        one a row. Traced: another secret compiles nothing. It is in no message and in no description.
    """

    secret: Any = dataclasses.field(repr=False, compare=False)
    reads_text: ClassVar[bool] = False
    """Whether it changes the logits by the text before them, rather than the noise."""

    @abc.abstractmethod
    def validated(self, batch: int, vocab_size: int) -> Self:
        """A copy whose arrays are one a row `[B, ...]`.

        Raises:
          ValueError: naming the value and the limit.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeySequence(Watermark):
    """A watermark whose secret gives n rows of noise, of which a text uses one a token, from a random row on.

      row of the token at position t = (s + t) mod n,   s ~ U{0, ..., n - 1} by the key of the text's own row

    The shift s is drawn once a text, and independently of the secret. So the tokens of a text of at most n tokens are
    drawn with independent noise, and over secrets the text has the very law of the model; beyond n tokens rows come
    again. Texts of one secret may share rows: each has the law of the model, but they depend on one another.

    Attributes:
      length: n, an integer, or one a row.
    """

    length: Any = 256
    gap: ClassVar[float]
    """A gap cost that serves detection after insertions and deletions."""

    def validated(self, batch: int, vocab_size: int) -> Self:
        """See `Watermark`; secrets are uint32 `[B, 2]`, lengths int32 `[B]`."""
        length = checked_knob("watermark length", self.length, _LENGTH, batch)
        return dataclasses.replace(self, secret=checked_secret(self.secret, batch), length=length)

    def rows(self, keys: jax.Array, places: jax.Array) -> jax.Array:
        """Keys of the noise `[B, ...]` at positions `places [B, ...]`; `keys [B]` are those of the rows."""
        length = jnp.asarray(self.length)
        starts = key_at(keys, Purpose.WATERMARK, jnp.zeros_like(length))
        shift = jax.vmap(lambda key, n: jax.random.randint(key, (), 0, n, jnp.int32))(
            starts, length
        )
        of_row = lambda x: x.reshape(-1, *(1,) * (places.ndim - 1))
        return key_at(
            secret_keys(self.secret), Purpose.TOKEN, (of_row(shift) + places) % of_row(length)
        )

    @abc.abstractmethod
    def noise(self, keys: jax.Array, places: jax.Array, vocab_size: int) -> jax.Array:
        """The noise of the tokens at some positions.

        Args:
          keys: row keys `[B]`.
          places: int32 `[B, ...]`, positions.
          vocab_size: V.

        Returns:
          float32 `[B, ..., V]`.
        """

    def settled(self, log_probs: jax.Array, noise: jax.Array) -> jax.Array:
        """What is added to a law `[B, ..., V]` so that the highest token is that of the noise; the noise itself."""
        return noise

    @classmethod
    @abc.abstractmethod
    def costs(cls, secret: jax.Array, tokens: jax.Array, length: int, vocab_size: int) -> jax.Array:
        """How badly each token fits each row of the key: low where it was drawn with that row.

        Args:
          secret: a key.
          tokens: int32 `[m]`.
          length: n.
          vocab_size: V.

        Returns:
          float32 `[n, m]`.
        """

    @classmethod
    def random_costs(
        cls, key: jax.Array, tokens: jax.Array, first: jax.Array, length: int, vocab_size: int
    ) -> jax.Array:
        """Costs under a random secret, float32 `[n, m]`: a draw from the law that those of `costs` have.

        Args:
          key: of the draw.
          tokens: int32 `[m]`.
          first: int32 `[m]`, where each token stands first in the text.
          length: n.
          vocab_size: V.
        """
        return cls.costs(key, tokens, length, vocab_size)


def checked_watermark(watermark: Any, batch: int, vocab_size: int) -> Watermark:
    """`validated`; raises `ValueError` for what is no watermark."""
    if not isinstance(watermark, Watermark):
        raise ValueError(f"watermark: got {shown(watermark)}, must be one of `jaxdec.watermarks`")
    return watermark.validated(batch, vocab_size)


def secret_keys(secret: Any) -> jax.Array:
    """The keys `[...]` of secrets uint32 `[..., 2]`, as `checked_secret` gives them."""
    return jax.random.wrap_key_data(jnp.asarray(secret), impl=IMPLEMENTATION)


def checked_secret(secret: Any, batch: int) -> Any:
    """Secrets uint32 `[B, 2]`; what is traced is checked by shape and type alone.

    Raises:
      ValueError: unless there is one key or seed, or one a row. No message shows a secret.
    """
    if isinstance(secret, jax.Array) and jnp.issubdtype(secret.dtype, jax.dtypes.prng_key):
        data = _data(secret)
    else:
        data = _seeds(secret)
    if data.shape not in ((2,), (batch, 2)):
        raise ValueError(
            f"watermark secret: got shape {data.shape[:-1]}, must be one key or seed, or {batch}, one a row"
        )
    if is_traced(data):
        return jnp.broadcast_to(data, (batch, 2))
    return np.broadcast_to(np.asarray(data), (batch, 2))


def _data(keys: jax.Array) -> jax.Array:
    """The two words of each key; those of a seed for a key of that seed."""
    if jax.random.key_impl(keys) == jax.random.key_impl(jax.random.key(0, impl=IMPLEMENTATION)):
        return jax.random.key_data(keys)
    draw = lambda key: jax.random.bits(key, (2,), jnp.uint32)
    for _ in keys.shape:
        draw = jax.vmap(draw)
    return draw(keys)


def _seeds(given: Any) -> Any:
    known = not is_traced(given)
    wanted = "a key made by jax.random.key or an integer seed in [0, 4294967296), or one a row"
    if given is None or isinstance(given, bool | str | bytes):
        raise ValueError(f"watermark secret: got {type(given).__name__}, must be {wanted}")
    try:
        seeds = as_array("watermark secret", given, wanted)
    except ValueError:  # whose message shows the value
        raise ValueError(
            f"watermark secret: got {type(given).__name__}, must be {wanted}"
        ) from None
    if not jnp.issubdtype(seeds.dtype, jnp.integer):
        raise ValueError(f"watermark secret: got type {shown(seeds.dtype)}, must be {wanted}")
    if known and ((seeds < 0) | (seeds >= 1 << 32)).any():
        raise ValueError(f"watermark secret: got a seed out of range, must be {wanted}")
    stack: Any = np.stack if known else jnp.stack
    words = seeds.astype(np.uint32)
    return stack([words * np.uint32(0), words], axis=-1)
