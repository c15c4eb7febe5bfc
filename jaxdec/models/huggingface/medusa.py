"""Medusa's heads, from a safetensors conversion: the published files are pickled.

    {k}.{j}.linear.{weight [D, D], bias}   block j of head k
    {k}.{blocks}.weight [V, D]             its output matrix

How many heads there are is counted: the configuration of some files says less than they hold.
"""

import re
from collections.abc import Mapping
from typing import Any

from jaxdec.models.config import TransformerConfig
from jaxdec.models.heads import HeadsConfig, Medusa
from jaxdec.models.huggingface.contract import Architecture, Path, Stored
from jaxdec.models.huggingface.draft_heads import DraftHeads
from jaxdec.models.huggingface.fields import size
from jaxdec.models.huggingface.tensors import Tensors

HEADS_FIELD, BLOCKS_FIELD = "medusa_num_heads", "medusa_num_layers"


def reads(fields: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is that of Medusa's heads alone."""
    return HEADS_FIELD in fields and "num_hidden_layers" not in fields


def complete(
    fields: Mapping[str, Any], target: TransformerConfig | None, held: Tensors
) -> dict[str, Any]:
    """Sizes and number of heads from the tensors.

    Raises:
      ValueError: if there is no head, or the target has other sizes.
    """
    blocks = int(fields.get(BLOCKS_FIELD) or 1)
    matrix = re.compile(rf"(\d+)\.{blocks}\.weight")
    found = [match for name in held.names() if (match := matrix.fullmatch(name))]
    if not found:
        raise ValueError(
            f"there is no tensor '0.{blocks}.weight': it has no head of {blocks} blocks"
        )
    vocab_size, width = held.shape(found[0].string)
    for name, own in (("vocab_size", vocab_size), ("width", width)):
        if target is not None and getattr(target, name) != own:
            raise ValueError(f"the heads have {name} {own}, the target {getattr(target, name)}")
    heads = 1 + max(int(match[1]) for match in found)
    sizes = {"vocab_size": vocab_size, "hidden_size": width}
    return {**fields, **sizes, HEADS_FIELD: heads, BLOCKS_FIELD: blocks}


def config(fields: Mapping[str, Any]) -> HeadsConfig:
    """The configuration."""
    names = ("vocab_size", "hidden_size", HEADS_FIELD, BLOCKS_FIELD)
    return HeadsConfig(*(size(fields, name) for name in names))


def fields(config: HeadsConfig) -> dict[str, Any]:
    """The inverse of `config`."""
    sizes = {"vocab_size": config.vocab_size, "hidden_size": config.width}
    return {**sizes, HEADS_FIELD: config.heads, BLOCKS_FIELD: config.blocks}


def stored(path: Path, config: HeadsConfig) -> Stored:
    """Where a parameter is kept: of `heads[k].blocks[j]` or of `heads[k].lm_head`."""
    _, head, part, *rest = path
    if part == "lm_head":
        return Stored(f"{head}.{config.blocks}.weight", transposed=True)
    block, leaf = rest
    if leaf == "bias":
        return Stored(f"{head}.{block}.linear.bias")
    return Stored(f"{head}.{block}.linear.weight", transposed=True)


ARCHITECTURE = Architecture("medusa", (), config, fields, stored, network=Medusa)
HEADS = DraftHeads(reads, complete)
