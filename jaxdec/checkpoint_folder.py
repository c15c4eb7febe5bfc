"""Folders of checkpoints: where they are, and their configurations, read and checked.

The layout is that of `jaxdec.checkpoints`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxdec import files
from jaxdec.models import huggingface
from jaxdec.models.heads import KINDS

HASHED = ("config.json", "weights")
"""What the hashes of a folder are of."""

FILLS = ("subsets", "canvas", "blocks")


def folder() -> Path:
    """Where the shipped checkpoints lie: inside the installed package, or at the root of a source tree."""
    package = Path(__file__).parent
    inside = package / "checkpoints"
    return inside if inside.is_dir() else package.parent / "checkpoints"


def available() -> list[str]:
    """Names of the shipped checkpoints, of models and of draft heads."""
    return sorted(path.parent.name for path in folder().glob("*/config.json"))


def read(name: str | Path) -> tuple[Path, Any]:
    """The folder of a checkpoint, by its path or the name of a shipped one, and its configuration."""
    path = Path(name)
    if not (path / "config.json").is_file():
        path = folder() / str(name)
    if not (path / "config.json").is_file() and huggingface.is_hub_id(str(name)):
        path = huggingface.from_hub(str(name))
    if not (path / "config.json").is_file():
        raise ValueError(
            f"no checkpoint {str(name)!r}: it is neither a folder with a config.json nor one of the "
            f"shipped ones ({', '.join(available()) or 'none'})"
        )
    try:
        held = files.read_json(path / "config.json")
    except ValueError:
        raise damaged(name, "its config.json is not a JSON object") from None
    if is_public(held):
        return path, held
    check(name, held)
    try:
        files.check_sums(path, HASHED)
    except ValueError as error:
        raise damaged(name, str(error)) from None
    return path, held


def is_public(held: Mapping[str, Any]) -> bool:
    """Whether a configuration is one of Hugging Face files."""
    named = bool({"model_type", "architectures"} & {*held})
    return "model" not in held and (named or is_public_heads(held))


def is_public_heads(held: Mapping[str, Any]) -> bool:
    """Whether it is that of draft heads in Hugging Face files."""
    return "model" not in held and huggingface.heads_of_fields(held) is not None


def damaged(name: str | Path, reason: str) -> ValueError:
    """The error about a checkpoint whose files are not what they should be."""
    return ValueError(f"checkpoint {str(name)!r} is damaged: {reason}")


def check(name: str | Path, held: Any) -> None:
    """Refuses a configuration with fields that are missing or of another kind; sizes are left to `sizes`."""
    number = lambda value: isinstance(value, int) and not isinstance(value, bool)
    rules: dict[str, tuple[bool, Callable[[Any], bool], str]] = {
        # field: (whether it must be there, what it must fulfil, in words)
        "model": (True, lambda x: isinstance(x, dict), "a dict of sizes"),
        "dtype": (True, lambda x: isinstance(x, str), "the name of a type"),
        "facts": (True, lambda x: isinstance(x, dict), "a dict"),
        "heads": (False, lambda x: x in list(KINDS), f"one of {', '.join(KINDS)}"),
        "target": ("heads" in held, lambda x: isinstance(x, str), "the name of a checkpoint"),
        "eos": (True, lambda x: isinstance(x, list) and all(map(number, x)), "a list of tokens"),
        "fills": (False, lambda x: x in FILLS, f"one of {', '.join(FILLS)}"),
        "mask_token": ("fills" in held, number, "a token"),
        "block_size": (False, lambda x: number(x) and x > 0, "an integer of at least 1"),
    }
    for field, (needed, fulfilled, words) in rules.items():
        if field not in held and needed:
            raise damaged(name, f"its config.json has no {field!r}")
        if field in held and not fulfilled(held[field]):
            raise damaged(name, f"{field} of its config.json is {held[field]!r}, must be {words}")


def sizes(name: str | Path, kind: type, held: Any) -> Any:
    """The sizes that a configuration holds."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    required = {n for n, field in fields.items() if field.default is dataclasses.MISSING}
    if not isinstance(held, dict) or not required <= held.keys() <= fields.keys():
        given = sorted(held) if isinstance(held, dict) else held
        raise damaged(
            name,
            f"the sizes of its config.json are {given}; {sorted(required)} are needed, and {kind.__name__} lists what "
            "else there is",
        )
    try:
        return kind(**held)
    except (TypeError, ValueError) as error:
        raise damaged(name, f"the sizes of its config.json: {error}") from None
