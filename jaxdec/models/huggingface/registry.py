"""Which architecture reads a configuration."""

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

from jaxdec.models.huggingface.contract import Architecture

FILES = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "smollm3",
    "gemma3",
    "gpt2",
    "olmoe",
    "llada",
    "llada_moe",
    "llada2",
    "dream",
    "sdar",
    "fast_dllm",
    "a2d",
    "mdlm",
    "bd3lm",
    "xlnet",
    "bert",
)
"""The architectures that there are, each a module of this package with an `ARCHITECTURE`."""


def architectures() -> dict[str, Architecture]:
    """All architectures by name."""
    package = __name__.rpartition(".")[0]
    return {name: importlib.import_module(f"{package}.{name}").ARCHITECTURE for name in FILES}


def named(name: str) -> Architecture:
    """The architecture of a name.

    Raises:
      ValueError: if there is none; the message names the nearest.
    """
    known = architectures()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3) or sorted(known)
        raise ValueError(f"there is no architecture {name!r}; there are {', '.join(near)}")
    return known[name]


def of_fields(fields: Mapping[str, Any]) -> Architecture:
    """The architecture that a `config.json` asks for; one that names no type is taken for a Llama.

    Raises:
      ValueError: if none reads its type.
    """
    kind = fields.get("model_type", "llama")
    known = architectures().values()
    for architecture in known:
        if kind in architecture.model_types and architecture.reads(fields):
            return architecture
    types = sorted({kind for architecture in known for kind in architecture.model_types})
    raise ValueError(f"model_type {kind!r} is not supported, only {', '.join(types)}")


def table() -> str:
    """The architectures in Markdown: what their files say of themselves."""
    package = __name__.rpartition(".")[0]
    lines = ["| file | `model_type` | what it reads |", "| --- | --- | --- |"]
    for name, architecture in architectures().items():
        said = str(importlib.import_module(f"{package}.{name}").__doc__).partition("\n")[0]
        kinds = ", ".join(f"`{kind}`" for kind in architecture.model_types)
        lines.append(f"| `{name}` | {kinds} | {said.rstrip('.')} |")
    return "\n".join(lines) + "\n"
