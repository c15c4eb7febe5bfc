"""Checkpoints and methods by the names that a command line gives."""

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from jaxdec import catalogue, checkpoints
from jaxdec.catalogue import Method
from jaxdec.checkpoints import Checkpoint, HeadsCheckpoint
from jaxdec.model import Params
from jaxdec.parallel import Placement, placement
from jaxdec.text import Tokenizer

SHORT = 16  # names that are listed in a message


def load(name: str) -> Checkpoint:
    """Loads a checkpoint of a model.

    Raises:
      ValueError: if there is none, or it is damaged.
    """
    return checkpoints.load(_named(name))


def load_draft(name: str, target: Checkpoint | None = None) -> Checkpoint | HeadsCheckpoint:
    """Loads a checkpoint of a model, or of heads on one, such as the target.

    Raises:
      ValueError: as `load`.
    """
    return checkpoints.load_any(_named(name), target)


def _named(name: str) -> Path:
    if not name:
        raise ValueError("the name of a checkpoint is empty")
    return Path(name)


def tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """That of a checkpoint; raises `ValueError` if it has none."""
    if checkpoint.tokenizer is None:
        raise ValueError(
            f"checkpoint {checkpoint.name!r} has no tokenizer, and a vocabulary of {checkpoint.model.vocab_size}; text "
            "as bytes needs 256"
        )
    return checkpoint.tokenizer


def placed(sizes: dict[str, int] | None, params: Params) -> tuple[Placement | None, Params]:
    """The devices that `--placement` asks for, and parameters that lie on them; `(None, params)` if it was not given.

    Raises:
      ValueError: if there are fewer devices, or something does not divide over them.
    """
    if sizes is None:
        return None, params
    place = placement(**sizes)  # type: ignore[arg-type]
    return place, place.place(params)


def wordless(tokenizer: Tokenizer, vocab_size: int) -> np.ndarray:
    """bool `[vocab_size]`: the tokens that are no text, which are not to stand in a gap."""
    pieces = tokenizer.pieces()[:vocab_size]
    none = np.ones(vocab_size, bool)
    none[: len(pieces)] = [not piece for piece in pieces]
    return none


def chatted(tokenizer: Tokenizer, prompt: bytes) -> str:
    """A prompt as the first turn of a conversation; raises `ValueError` if it is not text, or there is no template."""
    try:
        said = prompt.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"the prompt is not UTF-8 at byte {error.start}") from None
    return tokenizer.chat([{"role": "user", "content": said}])


def encoded(
    tokenizer: Tokenizer, prompts: Sequence[bytes], *, chat: bool, bos: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Prompts as tokens `[B, P]` and their lengths `[B]`.

    Raises:
      ValueError: if one has no token, or is no text and the vocabulary takes nothing else.
    """
    texts = [chatted(tokenizer, prompt) for prompt in prompts] if chat else prompts
    # A template begins a text by itself; else the vocabulary does as it is used to, unless told to.
    tokens, lengths = tokenizer.encode_batch(texts, bos=False if chat else bos or None)
    for row, length in enumerate(lengths.tolist()):
        if not length:
            raise ValueError(f"prompt {row} is empty (0 bytes); at least 1 byte is needed")
    return np.asarray(tokens), np.asarray(lengths)


def continuing(name: str, verifier: str | None = None) -> Method:
    """The method of a name that continues prompts.

    Args:
      name: of the catalogue, or of a family if a verifier goes with it.
      verifier: is added to the name.

    Raises:
      ValueError: if there is no such method; the message names the nearest.
    """
    if verifier not in (None, *catalogue.VERIFIERS):
        raise ValueError(
            f"there is no verifier {verifier!r}, only {', '.join(catalogue.VERIFIERS)}"
        )
    joined = name if verifier in (None, "walk") else f"{name}-{verifier}"
    plain = lambda row: not (row.infills or row.denoises or row.searches)
    return _found(joined, "continues prompts", plain)


def infilling(name: str) -> Method:
    """The method of a name that fills gaps; raises `ValueError` if there is none."""
    return _found(name, "fills gaps", lambda row: row.infills)


def denoising(name: str) -> Method:
    """The method of a name that fills a canvas; raises `ValueError` if there is none."""
    return _found(name, "fills a canvas", lambda row: row.denoises)


def searching(name: str) -> Method:
    """The method of a name that decodes several hypotheses; raises `ValueError` if there is none."""
    return _found(name, "searches", lambda row: row.searches)


def _found(name: str, does: str, suits: Callable[[Method], bool]) -> Method:
    names = [row.name for row in catalogue.METHODS.values() if suits(row)]
    if name in names:
        return catalogue.METHODS[name]
    near = difflib.get_close_matches(name, names, n=4, cutoff=0.5)
    shown = names if len(names) <= SHORT else near
    listed = f": {', '.join(shown)}" if shown else ""
    raise ValueError(f"there is no method {name!r} that {does}{listed}; `jaxdec info` lists all")


def device() -> str:
    """The kind of the first device."""
    return jax.devices()[0].device_kind
