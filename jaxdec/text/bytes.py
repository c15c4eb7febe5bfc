"""Text as bytes: a vocabulary of 260 with no tokenizer.

Tokens 0-255 are bytes; then `BOS`, `EOS`, `PAD` and `MASK`.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import jax
import numpy as np

from jaxdec.text.contract import PieceTokenizer

BOS, EOS, PAD, MASK = 256, 257, 258, 259
VOCAB_SIZE = 260

_PIECES = (*(bytes([byte]) for byte in range(256)), b"", b"", b"", b"")


@dataclasses.dataclass(frozen=True)
class ByteTokenizer(PieceTokenizer):
    """Bytes as tokens; see `Tokenizer`. Any text is encoded, and any bytes are.

    Attributes:
      vocab_size: 260.
      eos: `(EOS,)`.
      mask_token: `MASK`.
      special_tokens: none that have a name.
      frame: a document stands between `BOS` and `EOS`.
      pad: `PAD`.
    """

    vocab_size: int = VOCAB_SIZE
    eos: tuple[int, ...] = (EOS,)
    mask_token: int | None = MASK
    frame: tuple[tuple[int, ...], tuple[int, ...]] = ((BOS,), (EOS,))
    pad: int = PAD

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """None that have a name."""
        return {}

    def pieces(self) -> Sequence[bytes]:
        """The byte of each token; none for the special ones."""
        return _PIECES

    def to_ids(self, text: str | bytes) -> np.ndarray:
        """The bytes of a text (UTF-8) as int32 `[n]`."""
        raw = text.encode("utf-8") if isinstance(text, str) else bytes(text)
        return np.frombuffer(raw, np.uint8).astype(np.int32)


BYTES = ByteTokenizer()
"""The vocabulary of the shipped checkpoints."""


def to_ids(text: str | bytes) -> np.ndarray:
    """The bytes of a text (UTF-8) as int32 `[n]`."""
    return BYTES.to_ids(text)


def encode(text: str | bytes, *, bos: bool = False) -> jax.Array:
    """Encodes one text as int32 `[1, P]`.

    Args:
      text: any text; a string is encoded as UTF-8.
      bos: whether the row starts with `BOS` (the start of a file).
    """
    return BYTES.encode(text, bos=bos)


def encode_batch(texts: Sequence[str | bytes], *, bos: bool = False) -> tuple[jax.Array, jax.Array]:
    """Encodes several texts as ragged rows.

    Returns:
      `(tokens, lengths)`: int32 `[B, P]`, padded on the right with `PAD`, and int32 `[B]`.

    Raises:
      ValueError: if there is no text.
    """
    return BYTES.encode_batch(texts, bos=bos)


def decode(ids: Iterable[int] | jax.Array) -> str:
    """The text of a row of tokens; special tokens are dropped, broken UTF-8 is replaced.

    Raises:
      ValueError: if `ids` is not one row.
    """
    return BYTES.decode(ids)
