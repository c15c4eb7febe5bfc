"""Checkpoints by the name that a hub has for them."""

import re
from pathlib import Path

PATTERNS = ["*.json", "*.jinja", "*.safetensors", "*.txt", "*.model"]
"""What is fetched: configurations, tokenizers and weights; no code and nothing pickled."""


def is_hub_id(name: str) -> bool:
    """Whether a name is of the form `owner/name` and no folder here."""
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", name)) and not Path(name).exists()


def from_hub(name: str) -> Path:
    """The folder of a checkpoint in the local cache, fetched into it if it is not there.

    Raises:
      ValueError: if `huggingface_hub` is not installed, or neither the cache has it nor the hub can be reached.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise ValueError(
            f"no checkpoint {name!r}: there is no such folder, and to fetch it from a hub needs huggingface_hub "
            "(extra hf)"
        ) from None
    try:
        return Path(snapshot_download(name, allow_patterns=PATTERNS))
    except Exception as error:  # of many kinds, each with a page of advice
        try:
            return Path(snapshot_download(name, allow_patterns=PATTERNS, local_files_only=True))
        except Exception:
            raise ValueError(
                f"no checkpoint {name!r}: there is no such folder, the cache of huggingface_hub lacks it, and the "
                f"hub could not be reached ({type(error).__name__})"
            ) from None
