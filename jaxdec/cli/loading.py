"""Checkpoints and methods by the names that a command line gives."""

import difflib
from collections.abc import Callable
from pathlib import Path

import jax

from jaxdec import catalogue, checkpoints
from jaxdec.catalogue import Method
from jaxdec.checkpoints import Checkpoint, HeadsCheckpoint

SHORT = 16  # names that are listed in a message


def load(name: str) -> Checkpoint:
    """Loads a checkpoint of a model of bytes.

    Raises:
      ValueError: if there is none, it is damaged, or its vocabulary cannot hold every byte.
    """
    checkpoint = checkpoints.load(_named(name))
    _check_bytes(name, checkpoint.model.vocab_size)
    return checkpoint


def load_draft(name: str, target: Checkpoint | None = None) -> Checkpoint | HeadsCheckpoint:
    """Loads a checkpoint of a model of bytes, or of heads on one, such as the target.

    Raises:
      ValueError: as `load`.
    """
    checkpoint = checkpoints.load_any(_named(name), target)
    _check_bytes(name, checkpoint.model.vocab_size)
    return checkpoint


def _named(name: str) -> Path:
    if not name:
        raise ValueError("the name of a checkpoint is empty")
    return Path(name)


def _check_bytes(name: str, vocab_size: int) -> None:
    if vocab_size < 256:
        raise ValueError(
            f"checkpoint {name!r} has a vocabulary of {vocab_size}; text as bytes needs 256"
        )


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
    return _found(joined, "continues prompts", lambda row: not (row.infills or row.denoises))


def infilling(name: str) -> Method:
    """The method of a name that fills gaps; raises `ValueError` if there is none."""
    return _found(name, "fills gaps", lambda row: row.infills)


def denoising(name: str) -> Method:
    """The method of a name that fills a canvas; raises `ValueError` if there is none."""
    return _found(name, "fills a canvas", lambda row: row.denoises)


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
