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
    load: Callable[[str], Checkpoint | HeadsCheckpoint] = checkpoints.load_any,
) -> tuple[Decoder, Params]:
    """The decoder of a method that continues prompts or fills gaps, and the parameters of its parts.

    Args:
      method: from `METHODS`.
      target: is decoded.
      draft: name of the checkpoint that drafts, if the method needs one; its own if not given.
      length: see `Parts`.
      nodes: see `Parts`.
      load: loads a checkpoint by name.

    Raises:
      ValueError: for impossible parts, or if there is no such checkpoint.
    """
    parts = Parts(target.model, length=length, nodes=nodes)
    if not method.draft:
        if draft is not None:
            raise ValueError(
                f"method {method.name!r} drafts without a checkpoint, so it takes no draft {draft!r}"
            )
        return method.make(parts), {"target": target.params}
    drafter = load(method.draft if draft is None else draft)
    if isinstance(drafter, HeadsCheckpoint) and drafter.config.width != target.config.width:
        raise ValueError(
            f"{drafter.name!r} reads hidden states of width {drafter.config.width}, target {target.name!r} "
            f"has {target.config.width}"
        )
    block = getattr(drafter, "block_size", None)
    parts = Parts(target.model, drafter.model, length=length, nodes=nodes, block=block)
    return method.make(parts), {"target": target.params, "draft": drafter.params}
