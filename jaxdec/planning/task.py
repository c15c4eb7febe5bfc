"""What is planned, and the decoders that it is made of."""

import dataclasses
import functools
from typing import Any

import numpy as np

from jaxdec import catalogue
from jaxdec.autoregressive import autoregressive
from jaxdec.catalogue import Method, Parts
from jaxdec.decoding import Decoder, Request
from jaxdec.generation import prepare
from jaxdec.model import Params
from jaxdec.models.heads import KINDS
from jaxdec.planning import models
from jaxdec.planning.chips import Topology
from jaxdec.speculative import drafters, speculative

DTYPES = ("bfloat16", "float32")


@dataclasses.dataclass(frozen=True)
class Task:
    """A decode on chips that need not be there; all fields are plain values.

    Attributes:
      model: see `models.sized`.
      topology: such as `v5e:4x4`.
      data: chips, or groups of them, that rows are split over.
      model_axis: chips that heads and inner widths are split over.
      sequence: chips that the slots of caches are split over.
      method: of the catalogue, one that continues prompts or decodes a canvas.
      nodes: of a draft tree; None for the method's own.
      length: of drafts, or depth of a tree; None for the method's own.
      draft: model that drafts, for the methods that need one.
      batch: rows in all.
      context: tokens a row, half of them a prompt.
      block: of a canvas; the model's own, else 32.
      refresh: of a canvas, see `Parts`; if not given `"block"` for a model of blocks, else `"dual"`.
      dtype: of parameters and caches.
    """

    model: str
    topology: str
    data: int = 1
    model_axis: int = 1
    sequence: int = 1
    method: str = "autoregressive"
    nodes: int | None = None
    length: int | None = None
    draft: str | None = None
    batch: int = 16
    context: int = 8192
    block: int | None = None
    refresh: str | None = None
    dtype: str = "bfloat16"

    def check(self) -> None:
        """Raises `ValueError`, naming value and limit, for what cannot be planned; nothing is traced."""
        chips = Topology.parse(self.topology).chips
        sizes = {"data": self.data, "sequence": self.sequence, "model": self.model_axis}
        for name, size in {**sizes, "batch": self.batch}.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        wanted = self.data * self.sequence * self.model_axis
        if wanted != chips:
            product = " x ".join(f"{name} {size}" for name, size in sizes.items())
            raise ValueError(f"{product} is {wanted} chips, topology {self.topology} has {chips}")
        if self.batch % self.data:
            raise ValueError(f"batch {self.batch} does not divide over data {self.data}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        config = self.target.config
        if not 64 <= self.context <= config.max_length:
            raise ValueError(
                f"context must be 64 to {config.max_length} for {self.model}, got {self.context}"
            )
        odd = self.undivided(self.model_axis)
        if odd is not None:
            raise ValueError(
                f"{odd} {getattr(config, odd)} of {self.model} do not divide over model {self.model_axis}"
            )
        self.decoder(layers=1)

    def undivided(self, chips: int) -> str | None:
        """Which size of the model does not divide over so many chips of `model`; None if all do."""
        config = self.target.config
        names = ("kv_heads", "heads", "hidden")
        return next((name for name in names if getattr(config, name, 0) % chips), None)

    @functools.cached_property
    def target(self) -> models.Sized:
        """The model that is decoded."""
        return models.sized(self.model)

    @property
    def method_row(self) -> Method:
        """The method of the catalogue; raises `ValueError` for one that cannot be planned."""
        method = catalogue.find(self.method)
        if method.infills or method.searches:
            does = "fills gaps" if method.infills else "decodes several hypotheses"
            raise ValueError(
                f"method {self.method!r} {does}; plan takes methods that continue prompts or decode a canvas"
            )
        if method.denoises and self.target.mask_token is None:
            raise ValueError(
                f"method {self.method!r} decodes a canvas, and {self.model} has no mask token: it predicts next tokens"
            )
        if not method.denoises and self.target.mask_token is not None:
            raise ValueError(
                f"{self.model} fills masks, and method {self.method!r} does not decode a canvas; "
                f"{', '.join(catalogue.DENOISING[:6])} do"
            )
        return method

    def decoder(self, layers: int | None = None) -> tuple[Decoder, dict[str, Params]]:
        """The decoder, and shapes of its parameters.

        Args:
          layers: of the target; its own number if not given.

        Raises:
          ValueError: for parts that are missing or impossible.
        """
        method = self.method_row
        network, target = self.target.network(layers, self.dtype)
        params, draft = {"target": target}, None
        if method.denoises:
            if method.draft:
                raise ValueError(
                    f"method {self.method!r} has a second model, which plan does not know on a canvas"
                )
            block = self.canvas_block
            causal = self.target.block is not None
            parts = Parts(
                self.target.decoded(network),
                length=self.length,
                block=block,
                causal=causal,
                refresh=self.refresh or ("block" if causal else "dual"),
            )
            return method.make(parts), params
        if method.heads:
            raise ValueError(
                f"method {self.method!r} drafts with {method.heads} heads, whose sizes plan does not know; "
                "it knows those of medusa, hydra, eagle, falcon and chimera"
            )
        family = self.method.partition("-")[0]
        if method.draft and family in KINDS:
            draft, params["draft"] = models.heads(family, self.target.config, self.dtype)
        elif method.draft:
            if self.draft is None:
                raise ValueError(f"method {self.method!r} drafts with a model: name one by --draft")
            held = models.sized(self.draft)
            if held.config.vocab_size != self.target.config.vocab_size:
                raise ValueError(
                    f"{self.draft} has {held.config.vocab_size} tokens, {self.model} has "
                    f"{self.target.config.vocab_size}; a draft model has the target's"
                )
            small, params["draft"] = held.network(None, self.dtype)
            draft = held.decoded(small)
        return method.make(Parts(network, draft, length=self.length, nodes=self.nodes)), params

    def verification(self, tokens: int, layers: int) -> tuple[Decoder, dict[str, Params]]:
        """The same network under a decoder that scores a chain of `tokens` in each forward, drafted from the text."""
        network, target = self.target.network(layers, self.dtype)
        if tokens == 1:
            return autoregressive(network), {"target": target}
        chain = drafters.prompt_lookup(length=tokens - 1)
        return speculative(network, drafter=chain), {"target": target}

    def scored(self, decoder: Decoder) -> int:
        """New tokens in a usual forward of the target: 1, a draft tree and the pending token, or a block."""
        drafter = getattr(decoder, "drafter", None)
        if drafter is not None:
            return drafter.nodes + 1
        return self.canvas_block if self.method_row.denoises else 1

    @property
    def canvas_block(self) -> int:
        """Positions of a block of a canvas."""
        return self.block or self.target.block or 32

    def request(self, decoder: Decoder, params: Any) -> Request:
        """A request that fills `context` tokens a row."""
        prompt = np.ones((self.batch, self.context // 2), np.int32)
        new = self.context - prompt.shape[1]
        room: dict[str, Any] = {"temperature": 0.8, "eos": [2]}
        if getattr(decoder, "fills_canvas", False):
            return prepare(decoder, params, prompt, max_new_tokens=new, **room)
        return prepare(decoder, params, prompt, max_new_tokens=new - decoder.width, **room)
