"""Decoders by the names of their methods, from checkpoints."""

from collections.abc import Callable

from jaxdec import checkpoints
from jaxdec.catalogue.method import Method, Parts
from jaxdec.checkpoints import Checkpoint, HeadsCheckpoint
from jaxdec.decoding import Decoder
from jaxdec.model import Params


def assemble(
    method: Method,
    target: Checkpoint,
    *,
    draft: str | None = None,
    length: int | None = None,
    nodes: int | None = None,
    block: int | None = None,
    refresh: str | None = None,
    load: Callable[[str], Checkpoint | HeadsCheckpoint] = checkpoints.load_any,
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
      load: loads a checkpoint by name.

    Returns:
      `(decoder, params)`, with params a mapping of `"target"` and, where a checkpoint drafts, `"draft"`.

    Raises:
      ValueError: for impossible parts, or if there is no such checkpoint.
    """
    params = {"target": target.params}
    if method.denoises:
        parts = _canvas(target, length, block, refresh)
    elif block is not None or refresh is not None:
        raise ValueError(
            f"method {method.name!r} decodes no canvas: it takes no block and no refresh rule"
        )
    elif not method.draft:
        parts = Parts(target.model, length=length, nodes=nodes)
    else:
        drafter = _drafter(method, target, draft, load)
        params["draft"] = drafter.params
        size = getattr(drafter, "block_size", None)
        parts = Parts(target.model, drafter.model, length=length, nodes=nodes, block=size)
    if draft is not None and not method.draft:
        raise ValueError(
            f"method {method.name!r} drafts without a checkpoint, so it takes no draft {draft!r}"
        )
    return method.make(parts), params


def _drafter(
    method: Method,
    target: Checkpoint,
    draft: str | None,
    load: Callable[[str], Checkpoint | HeadsCheckpoint],
) -> Checkpoint | HeadsCheckpoint:
    drafter = load(method.draft if draft is None else draft)
    if isinstance(drafter, HeadsCheckpoint) and drafter.config.width != target.config.width:
        raise ValueError(
            f"{drafter.name!r} reads hidden states of width {drafter.config.width}, target {target.name!r} "
            f"has {target.config.width}"
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
    return Parts(target.model, length=length, block=block, causal=blocks, refresh=refresh)
