"""What an architecture of public checkpoints is: a map of the configuration, and a map of the tensors' names."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx

from jaxdec.model import Model, canvas_model
from jaxdec.models.transformer import Transformer

Path = tuple[str, ...]
"""Where a parameter stands in the nested dict of a network, such as `("layers", "0", "mlp", "up_proj", "kernel")`."""


@dataclasses.dataclass(frozen=True)
class Stored:
    """Where a checkpoint keeps a parameter, or one expert's slice of it.

    Attributes:
      name: of the tensor.
      transposed: whether the two axes are swapped there.
      part: `(start, stop)` along `axis` of the tensor, for several parameters in one tensor; None for the whole.
      axis: see `part`; of the tensor as it is stored.
      shape: that the tensor has there, where the parameter is a reshaped one; None if it is not.
    """

    name: str
    transposed: bool = False
    part: tuple[int, int] | None = None
    axis: int = 0
    shape: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Fills:
    """What a checkpoint that fills masks was trained for.

    Attributes:
      kind: `"canvas"`: all positions see one another; `"blocks"`: block after block; `"subsets"`: any subset given
        any other.
      mask_token: what stands at unknown positions.
      block_size: of the blocks that it was trained on.
      wrap: from the network as a `Model` to what decoders take; `canvas_model(model, mask_token)` if not given.
    """

    kind: str
    mask_token: int
    block_size: int | None = None
    wrap: Callable[[Model], Model] | None = None

    def __call__(self, model: Model) -> Model:
        """What decoders take."""
        return canvas_model(model, self.mask_token) if self.wrap is None else self.wrap(model)


def nothing(fields: Mapping[str, Any]) -> None:
    """What a model fills that predicts next tokens."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """How checkpoints of one architecture are read and written.

    `config(fields(c)) == c` holds for every configuration that it can store; `save` refuses others.

    Attributes:
      name: by which `save` takes it; the name of its file.
      model_types: of a `config.json` that it reads.
      config: from the fields of a `config.json` to the network's configuration; raises `ValueError` for what is missing
        or not supported.
      fields: from the configuration to the fields.
      stored: from a parameter's path and the configuration to where it is kept; several `Stored` are stacked along a
        new first axis.
      network: called as `network(config, rngs=...)`.
      fills: from the fields to what a model fills; None for one that predicts next tokens.
      ignored: whether a tensor of some name follows from others, and may be there or not.
      prefix: of names, which checkpoints of the network without its head lack.
      reads: whether it reads a `config.json` of one of its types, where several architectures name the same.
      renamed: from the name that a tensor has in some older files to the one that `stored` knows.
    """

    name: str
    model_types: tuple[str, ...]
    config: Callable[[Mapping[str, Any]], Any]
    fields: Callable[[Any], dict[str, Any]]
    stored: Callable[[Path, Any], "Stored | tuple[Stored, ...]"]
    network: Callable[..., nnx.Module] = Transformer
    fills: Callable[[Mapping[str, Any]], Fills | None] = nothing
    ignored: Callable[[str, Any], bool] = lambda name, config: False
    prefix: str = ""
    reads: Callable[[Mapping[str, Any]], bool] = lambda fields: True
    renamed: Callable[[str], str] = lambda name: name

    def abstract(self, config: Any) -> nnx.Module:
        """The network with shapes in place of arrays."""
        return nnx.eval_shape(lambda: self.network(config, rngs=nnx.Rngs(0)))
