"""Which architecture reads a configuration."""

import difflib
import importlib
from collections.abc import Mapping, Sequence
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
HEADS = ("dflash", "eagle3", "medusa")
"""Those of draft heads, each a module with an `ARCHITECTURE` and a `HEADS`."""


def architectures() -> dict[str, Architecture]:
    """All architectures of models by name."""
    return {name: module.ARCHITECTURE for name, module in _modules(FILES).items()}


def heads_modules() -> dict[str, Any]:
    """The modules of draft heads by name."""
    return _modules(HEADS)


def _modules(names: Sequence[str]) -> dict[str, Any]:
    package = __name__.rpartition(".")[0]
    return {name: importlib.import_module(f"{package}.{name}") for name in names}


def named(name: str) -> Architecture:
    """The architecture of a name, of a model or of draft heads.

    Raises:
      ValueError: if there is none; the message names the nearest.
    """
    heads = {name: module.ARCHITECTURE for name, module in heads_modules().items()}
    known = {**architectures(), **heads}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3) or sorted(known)
        raise ValueError(f"there is no architecture {name!r}; there are {', '.join(near)}")
    return known[name]


def of_fields(fields: Mapping[str, Any]) -> Architecture:
    """The architecture that a `config.json` asks for; one that names no type is taken for a Llama.

    Raises:
      ValueError: if none reads its type, or it is that of draft heads.
    """
    heads = heads_of_fields(fields)
    if heads is not None:
        raise ValueError(
            f"the configuration is that of {heads} draft heads, which are no model of their own: they are loaded by "
            "checkpoints.load_heads(path, target=...)"
        )
    kind = fields.get("model_type", "llama")
    known = architectures().values()
    for architecture in known:
        if kind in architecture.model_types and architecture.reads(fields):
            return architecture
    types = sorted({kind for architecture in known for kind in architecture.model_types})
    raise ValueError(f"model_type {kind!r} is not supported, only {', '.join(types)}")


def table() -> str:
    """The architectures in Markdown: what their files say of themselves."""
    rows = [
        (name, ", ".join(f"`{kind}`" for kind in architecture.model_types))
        for name, architecture in architectures().items()
    ]
    rows += [(name, "draft heads") for name in HEADS]
    package = __name__.rpartition(".")[0]
    lines = ["| file | `model_type` | what it reads |", "| --- | --- | --- |"]
    for name, kinds in rows:
        said = str(importlib.import_module(f"{package}.{name}").__doc__).partition("\n")[0]
        lines.append(f"| `{name}` | {kinds} | {said.rstrip('.')} |")
    return "\n".join(lines) + "\n"


def heads_of_fields(fields: Mapping[str, Any]) -> str | None:
    """The name of the draft heads that a `config.json` is of; None if it is of none."""
    for name, module in heads_modules().items():
        try:
            if module.HEADS.reads(fields):
                return name
        except (TypeError, AttributeError):
            continue  # fields of another kind than they should be are of no draft heads
    return None
