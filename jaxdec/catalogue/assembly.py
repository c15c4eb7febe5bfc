"""Decoders by the names of their methods, from checkpoints."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from jaxdec import checkpoints
from jaxdec.catalogue.method import Method, Parts
from jaxdec.checkpoints import Checkpoint, HeadsCheckpoint
from jaxdec.decoding import Decoder
from jaxdec.model import Params, PositionHead, ScoreHead


def assemble(
    method: Method,
    target: Checkpoint,
    *,
    draft: str | None = None,
    length: int | None = None,
    nodes: int | None = None,
    block: int | None = None,
    refresh: str | None = None,
    load: Callable[[str], Checkpoint | HeadsCheckpoint] | None = None,
) -> tuple[Decoder, dict[str, Params]]:
    """The decoder of a method of any kind, and the parameters of its parts by name.

    Args:
      method: from `METHODS`; it continues prompts, fills gaps or decodes canvases.
      target: is decoded.
      draft: name of the checkpoint that drafts, if the method needs one; its own if not given.
      length: see `Parts`.
      nodes: see `Parts`.
      block: of a canvas, see `Parts`; the largest that the target was trained on if not given.
      refresh: of a canvas, see `Parts`; `"block"` for a target of blocks and `"none"` for others if not given.
      load: loads a checkpoint by name; `checkpoints.load_any` for this target if not given.

    Returns:
      `(decoder, params)`, with params a mapping of `"target"` and, where a checkpoint drafts, `"draft"`.

    Raises:
      ValueError: for impossible parts, or if there is no such checkpoint.
    """
    if method.denoises:
        parts = _canvas(target, length, block, refresh)
        second, params = _parts(method, target, draft, None, None, load)
        parts = dataclasses.replace(parts, draft=second.draft)
    elif block is not None or refresh is not None:
        raise ValueError(
            f"method {method.name!r} decodes no canvas: it takes no block and no refresh rule"
        )
    else:
        parts, params = _parts(method, target, draft, length, nodes, load)
    if method.weights is not None:
        params |= method.weights(target)
    return method.make(parts), params


def assemble_search(
    method: Method,
    target: Checkpoint,
    *,
    inner: Method | None = None,
    draft: str | None = None,
    length: int | None = None,
    nodes: int | None = None,
    load: Callable[[str], Checkpoint | HeadsCheckpoint] | None = None,
    **parts: Any,
) -> tuple[Decoder, dict[str, Params]]:
    """The decoder of a method that searches, and the parameters of its parts by name.

    Args:
      method: from `METHODS`, one of `SEARCHING`.
      target: is decoded.
      inner: decodes within segments, a method that continues prompts; plain decoding if not given.
      draft: as for `assemble`, of the inner method if there is one.
      length: as for `assemble`.
      nodes: as for `assemble`.
      load: as for `assemble`.
      **parts: further fields of `Parts`, of which None are left to the method: `segment`, `scorer`, `branches`, `m`.

    Returns:
      `(decoder, params)`, as `assemble`.

    Raises:
      ValueError: as `assemble`, and for what the method has no use for.
    """
    given = {name: value for name, value in {"inner": inner, **parts}.items() if value is not None}
    for name in given:
        if name not in method.takes:
            takes = ", ".join(method.takes) or "nothing"
            raise ValueError(f"method {method.name!r} takes no {name}; it takes {takes}")
    if inner is None:
        held, params = _parts(method, target, draft, length, nodes, load)
    else:
        given["inner"], params = assemble(
            inner, target, draft=draft, length=length, nodes=nodes, load=load
        )
        held = Parts(target.model)
    return method.make(dataclasses.replace(held, **given)), params


def _parts(
    method: Method,
    target: Checkpoint,
    draft: str | None,
    length: int | None,
    nodes: int | None,
    load: Callable[[str], Checkpoint | HeadsCheckpoint] | None,
) -> tuple[Parts, dict[str, Params]]:
    """The parts of a method, without those of a canvas, and their parameters."""
    params = {"target": target.params}
    if not (method.draft or method.heads):
        _refuse_draft(method, draft)
        return Parts(target.model, length=length, nodes=nodes), params
    if load is None:
        load = functools.partial(checkpoints.load_any, target=target)
    drafter = _drafter(method, target, draft, load)
    if isinstance(drafter.model, ScoreHead):
        raise ValueError(f"{drafter.name!r} scores hidden states, it drafts nothing")
    if isinstance(drafter.model, PositionHead) and not method.heads:
        raise ValueError(f"{drafter.name!r} is part of a policy of canvases, it drafts nothing")
    params["draft"] = drafter.params
    size = getattr(drafter, "block_size", None)
    return Parts(target.model, drafter.model, length=length, nodes=nodes, block=size), params


def _refuse_draft(method: Method, draft: str | None) -> None:
    if draft is not None and not (method.draft or method.heads):
        raise ValueError(
            f"method {method.name!r} drafts without a checkpoint, so it takes no draft {draft!r}"
        )


def _drafter(
    method: Method,
    target: Checkpoint,
    draft: str | None,
    load: Callable[[str], Checkpoint | HeadsCheckpoint],
) -> Checkpoint | HeadsCheckpoint:
    if draft is None and not method.draft:
        raise ValueError(
            f"method {method.name!r} drafts with {method.heads} heads, and none are shipped: name some as the draft"
        )
    drafter = load(method.draft if draft is None else draft)
    if isinstance(drafter, HeadsCheckpoint) and drafter.reads not in (None, target.config.width):
        raise ValueError(
            f"{drafter.name!r} reads hidden states of width {drafter.reads}, target {target.name!r} "
            f"has {target.config.width}"
        )
    if method.heads and getattr(drafter, "kind", None) != method.heads:
        kind = getattr(drafter, "kind", "a model")
        raise ValueError(
            f"method {method.name!r} drafts with {method.heads} heads, {drafter.name!r} holds {kind}"
        )
    return drafter


def _canvas(
    target: Checkpoint, length: int | None, block: int | None, refresh: str | None
) -> Parts:
    if target.fills == "subsets":
        raise ValueError(
            f"checkpoint {target.name!r} was trained to fill gaps between known text (`jaxdec infill`), not canvases"
        )
    blocks, largest = target.fills == "blocks", target.block_size
    if blocks and largest is not None:
        block = block or largest
        if block > largest:
            raise ValueError(
                f"block is {block}; the model was trained on blocks of up to {largest}"
            )
    refresh = refresh or ("block" if blocks else "none")
    pieces = () if target.tokenizer is None else target.tokenizer.pieces()
    return Parts(
        target.model,
        length=length,
        block=block,
        causal=blocks,
        refresh=refresh,
        delimiters=tuple(i for i, piece in enumerate(pieces) if b"\n" in piece),
    )
