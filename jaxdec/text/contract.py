"""What a tokenizer is: text becomes tokens, and each token stands for some bytes.

Whatever a row says is the bytes of its tokens one after the other, read as UTF-8. That is all that decoding, streaming
and stop strings know of a vocabulary.

Legend: B texts, P tokens of the longest, V vocabulary.
"""

import abc
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.text.streaming import Speller, TextStream


class Tokenizer(Protocol):
    """The vocabulary of a model. Compares by value or by identity: tables made for it are kept."""

    def __hash__(self) -> int: ...

    @property
    def vocab_size(self) -> int:
        """V: tokens are 0 to V - 1. A model may have more, which stand for nothing."""
        ...

    @property
    def eos(self) -> tuple[int, ...]:
        """Tokens that end a text."""
        ...

    @property
    def mask_token(self) -> int | None:
        """What stands at unknown positions; None for a vocabulary without one."""
        ...

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Tokens that are no text, by the names that stand for them in prompts; they decode to nothing."""
        ...

    @property
    def pad(self) -> int:
        """What fills up the rows of a batch; it is never read."""
        ...

    @property
    def frame(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The tokens that a whole document begins and ends with, as in training."""
        ...

    def pieces(self) -> Sequence[bytes]:
        """The bytes that each token stands for inside a text, V of them; none for special tokens."""
        ...

    def to_ids(self, text: str | bytes) -> np.ndarray:
        """The tokens of a text alone, int32 `[n]`."""
        ...

    def encode(self, text: str | bytes, *, bos: bool | None = None) -> jax.Array:
        """A prompt, int32 `[1, P]`.

        Args:
          text: any text.
          bos: whether it starts with the token that begins a document; None for what the vocabulary is used with,
            which may put other tokens around a text as well.
        """
        ...

    def encode_batch(
        self, texts: Sequence[str | bytes], *, bos: bool | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Several prompts as ragged rows: int32 `[B, P]`, padded on the right, and their lengths, int32 `[B]`."""
        ...

    def decode(self, ids: Iterable[int] | jax.Array, *, begins: bool = True) -> str:
        """The text of a row of tokens.

        Args:
          ids: one row.
          begins: whether the text begins here, or continues another.
        """
        ...

    def stream(
        self, *, begins: bool = True, stop_strings: Sequence[bytes] = (), keep_stop: bool = False
    ) -> TextStream:
        """What gives the text of tokens as they come, up to the first stop string."""
        ...

    def chat(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        """The prompt of a conversation, to be encoded with `bos=False`."""
        ...


class _Unreadable:
    """Raises why there is no tokenizer, whatever is asked of it."""

    def __init__(self, reason: str):
        self._reason = reason

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what Python asks of any object
            raise AttributeError(name)
        raise ValueError(self._reason)


def unreadable(reason: str) -> Tokenizer:
    """In place of a tokenizer that cannot be read: any use of it raises a `ValueError` that says why."""
    return cast(Tokenizer, _Unreadable(reason))


class PieceTokenizer(abc.ABC):
    """A tokenizer made of its `pieces`: all of `Tokenizer` but its attributes.

    Subclasses whose tokens are chosen otherwise than piece by piece have a `to_ids` of their own.
    """

    pad: int = 0
    """What fills up the rows of a batch; it is never read."""

    @property
    @abc.abstractmethod
    def frame(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """See `Tokenizer`."""

    @abc.abstractmethod
    def pieces(self) -> Sequence[bytes]:
        """See `Tokenizer`."""

    def first_piece(self, token: int) -> bytes:
        """The bytes that a token stands for at the beginning of a text."""
        return self.pieces()[token]

    def to_ids(self, text: str | bytes) -> np.ndarray:
        """The tokens of a text alone, int32 `[n]`: from left to right, each the longest piece that fits.

        Raises:
          ValueError: where none does.
        """
        raw = text.encode("utf-8") if isinstance(text, str) else bytes(text)
        longest = sorted(enumerate(self.pieces()), key=lambda token: -len(token[1]))
        ids: list[int] = []
        place = 0
        while place < len(raw):
            fits = (held for held in longest if held[1] and raw.startswith(held[1], place))
            token, piece = next(fits, (None, b""))
            if token is None:
                raise ValueError(
                    f"no token stands for the text at byte {place}, {raw[place:][:8]!r}"
                )
            ids.append(token)
            place += len(piece)
        return np.array(ids, np.int32)

    def prompt_ids(self, text: str | bytes, bos: bool | None) -> np.ndarray:
        """The tokens of a prompt, int32 `[n]`; behind those that begin a document if `bos`."""
        begin = np.array(self.frame[0] if bos else (), np.int32)
        return np.concatenate([begin, self.to_ids(text)])

    def encode(self, text: str | bytes, *, bos: bool | None = None) -> jax.Array:
        """A prompt, int32 `[1, P]`; see `Tokenizer`."""
        return jnp.asarray(self.prompt_ids(text, bos), jnp.int32)[None]

    def encode_batch(
        self, texts: Sequence[str | bytes], *, bos: bool | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Several prompts, `(tokens [B, P], lengths [B])`, padded on the right; see `Tokenizer`.

        Raises:
          ValueError: if there is no text.
        """
        if isinstance(texts, str | bytes):
            raise ValueError(f"encode_batch takes a list of texts, got one text, {texts[:40]!r}")
        if not len(texts):
            raise ValueError("encode_batch needs at least one text, got 0")
        rows = [self.prompt_ids(text, bos) for text in texts]
        tokens = np.full((len(rows), max(map(len, rows))), self.pad, np.int32)
        for row, ids in zip(tokens, rows, strict=True):
            row[: len(ids)] = ids
        return jnp.asarray(tokens), jnp.asarray([len(row) for row in rows], jnp.int32)

    def decode(self, ids: Iterable[int] | jax.Array, *, begins: bool = True) -> str:
        """The text of a row of tokens; special tokens are dropped, broken UTF-8 is replaced.

        Args:
          ids: one row.
          begins: whether the text begins here, or continues another: some vocabularies drop a space at the beginning.

        Raises:
          ValueError: if `ids` is not one row.
        """
        return Speller(self, begins)(ids).decode("utf-8", "replace")

    def chat(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        """The prompt of a conversation; raises `ValueError` where there is no template."""
        raise ValueError("the tokenizer has no chat template; give the prompt as text")

    def stream(
        self, *, begins: bool = True, stop_strings: Sequence[bytes] = (), keep_stop: bool = False
    ) -> TextStream:
        """What gives the text of tokens as they come; see `TextStream`."""
        return TextStream(self, begins=begins, stop_strings=stop_strings, keep_stop=keep_stop)
