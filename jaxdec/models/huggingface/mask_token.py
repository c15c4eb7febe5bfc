"""The mask token that the files of a tokenizer name, for checkpoints whose configuration does not."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxdec.files import read_json

FILES = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.json",
)
NAMES = ("<|mask|>", "<M>", "<|MASK|>", "|<MASK>|", "<|mdm_mask|>")
"""What published checkpoints call a mask that they added without saying what it is."""


def tokenizer_mask(folder: Path) -> int | None:
    """The mask token of the tokenizer in a folder; None where its files name none.

    Its name is `mask_token` of `tokenizer_config.json` or `special_tokens_map.json`, else the one of `NAMES` that was
    added to the vocabulary; its number stands there, in `added_tokens.json` or in `tokenizer.json`.

    Raises:
      ValueError: if a file is not JSON, or the token that is named has no number.
    """
    held = {name: read_json(folder / name) if (folder / name).is_file() else {} for name in FILES}
    numbers = dict(_numbers(held))
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        token = held[name].get("mask_token")
        token = token.get("content") if isinstance(token, Mapping) else token
        if token is None:
            continue
        if token not in numbers:
            raise ValueError(f"{folder / name} names the mask token {token!r}, which has no number")
        return numbers[token]
    return next((numbers[name] for name in NAMES if name in numbers), None)


def _numbers(held: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, int]]:
    """Tokens and their numbers, those that were added last."""
    vocabulary = (held["tokenizer.json"].get("model") or {}).get("vocab")
    if isinstance(vocabulary, Mapping):
        yield from vocabulary.items()
    for token in held["tokenizer.json"].get("added_tokens") or ():
        yield token["content"], int(token["id"])
    yield from held["added_tokens.json"].items()
    added = held["tokenizer_config.json"].get("added_tokens_decoder") or {}
    for number, token in added.items():
        yield token["content"], int(number)
