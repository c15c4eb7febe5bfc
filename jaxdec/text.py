"""Text as bytes: a vocabulary of 260 with no tokenizer.

Tokens 0-255 are bytes; then `BOS`, `EOS`, `PAD` and `MASK`.
"""

from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

BOS, EOS, PAD, MASK = 256, 257, 258, 259
VOCAB_SIZE = 260


def to_ids(text: str | bytes) -> np.ndarray:
    """The bytes of a text (UTF-8) as int32 `[n]`."""
    raw = text.encode("utf-8") if isinstance(text, str) else bytes(text)
    return np.frombuffer(raw, np.uint8).astype(np.int32)


def encode(text: str | bytes, *, bos: bool = False) -> jax.Array:
    """Encodes one text as int32 `[1, P]`.

    Args:
      text: any text; a string is encoded as UTF-8.
      bos: whether the row starts with `BOS` (the start of a file).
    """
    ids = to_ids(text)
    return jnp.asarray(np.concatenate([[BOS], ids]) if bos else ids, jnp.int32)[None]


def encode_batch(texts: Sequence[str | bytes], *, bos: bool = False) -> tuple[jax.Array, jax.Array]:
    """Encodes several texts as ragged rows.

    Returns:
      `(tokens, lengths)`: int32 `[B, P]`, padded on the right with `PAD`, and int32 `[B]`.

    Raises:
      ValueError: if there is no text.
    """
    if not texts:
        raise ValueError("encode_batch needs at least one text, got 0")
    rows = [np.asarray(encode(text, bos=bos))[0] for text in texts]
    tokens = np.full((len(rows), max(map(len, rows))), PAD, np.int32)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = ids
    return jnp.asarray(tokens), jnp.asarray([len(row) for row in rows], jnp.int32)


def decode(ids: Iterable[int] | jax.Array) -> str:
    """The text of a row of tokens; special tokens are dropped, broken UTF-8 is replaced.

    Raises:
      ValueError: if `ids` is not one row.
    """
    row = np.asarray(ids if hasattr(ids, "__len__") else list(ids))
    if row.ndim != 1:
        raise ValueError(f"decode takes one row of tokens, got shape {list(row.shape)}")
    return row[(row >= 0) & (row < 256)].astype(np.uint8).tobytes().decode("utf-8", "replace")
