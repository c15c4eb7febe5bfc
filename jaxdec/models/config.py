"""Sizes and forms of a `Transformer`."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxdec.arguments import check_fields, check_type
from jaxdec.models.layers.mixture import Mixture
from jaxdec.models.layers.rotary import Rotary, Scaling

PLAIN = Rotary()
MOST_LAYERS = 1 << 12
"""A network is built layer by layer, and no larger number is meant."""


@dataclasses.dataclass(frozen=True)
class LayerKind:
    """What sets one layer's attention apart.

    Attributes:
      window: if set, a token sees only keys fewer than `window` positions away (beside its spans).
      rotary: how queries and keys are turned by position; None for not at all.
    """

    window: int | None = None
    rotary: Rotary | None = PLAIN

    def __post_init__(self):
        object.__setattr__(self, "rotary", _of(Rotary, self.rotary))
        check_fields(self)
        if self.window is not None and self.window < 1:
            raise ValueError(f"window must be at least 1, got {self.window}")


FORMS: dict[str, tuple[Any, ...]] = {
    "norm": ("rms", "layer"),
    "placement": ("pre", "post", "sandwich"),
    "qk_norm": (None, "head", "whole"),
    "activation": ("silu", "gelu", "gelu_tanh"),
    "positions": ("rotary", "learned"),
}


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Sizes and forms of a `Transformer`; hashable. The defaults are those of a Llama.

    Attributes:
      vocab_size: V.
      width: D, the residual stream.
      layers: blocks.
      heads: query heads.
      kv_heads: key-value heads; divides `heads`.
      head_dim: width of a head, even.
      hidden: inner width of the feed-forward unit.
      max_length: longest sequence that decoders accept.
      rope_theta: base of the rotary frequencies.
      norm_epsilon: added to the mean square.
      tied: whether the head is the embedding's transpose.
      window: if set, a token sees only keys fewer than `window` positions away (beside its spans).
      rope_scaling: how frequencies are scaled to long sequences; None for not.
      rotary_width: how many of the first numbers of a head are turned; None for all.
      layer_kinds: one a layer, where layers differ in window or rotary; empty where all are the same.
      positions: `"rotary"`, or `"learned"`: embeddings that are added to those of the tokens, and no rotary.
      attention_bias: whether queries, keys and values have biases.
      output_bias: whether the attention's output has one.
      mlp_bias: whether the feed-forward unit has them.
      head_bias: whether the head has one.
      qk_norm: `"head"`: queries and keys are normed a head; `"whole"`: over all heads at once; None: not.
      norm: `"rms"`, or `"layer"`, which subtracts the mean.
      norm_bias: whether norms add a bias.
      norm_offset: added to the scale of norms: 1 where checkpoints store scale - 1.
      placement: `"pre"`: norms stand before attention and feed-forward unit; `"post"`: after the residual sum;
        `"sandwich"`: before, and after within the residual branch.
      activation: of the feed-forward unit.
      gated: whether that unit is gated, `down(act(gate(x)) up(x))`, or plain, `down(act(up(x)))`.
      embedding_scale: factor of the embeddings.
      attention_scale: factor of the scores; None for `head_dim^-0.5`.
      logit_scale: factor of the logits.
      logit_softcap: c, where logits l become `c tanh(l / c)`; None for not.
      mixture: of experts, in place of the feed-forward unit; None for none.
    """

    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    max_length: int = 2048
    rope_theta: float = 10000.0
    norm_epsilon: float = 1e-5
    tied: bool = True
    window: int | None = None
    rope_scaling: Scaling | None = None
    rotary_width: int | None = None
    layer_kinds: tuple[LayerKind, ...] = ()
    positions: str = "rotary"
    attention_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    qk_norm: str | None = None
    norm: str = "rms"
    norm_bias: bool = False
    norm_offset: float = 0.0
    placement: str = "pre"
    activation: str = "silu"
    gated: bool = True
    embedding_scale: float = 1.0
    attention_scale: float | None = None
    logit_scale: float = 1.0
    logit_softcap: float | None = None
    mixture: Mixture | None = None

    def __post_init__(self):
        # Nested parts come as dicts from a checkpoint's JSON.
        check_type("layer_kinds", self.layer_kinds, Sequence[Any])
        kinds = tuple(_of(LayerKind, kind) for kind in self.layer_kinds)
        object.__setattr__(self, "layer_kinds", kinds)
        object.__setattr__(self, "rope_scaling", _of(Scaling, self.rope_scaling))
        object.__setattr__(self, "mixture", _of(Mixture, self.mixture))
        check_fields(self)
        sizes = ("vocab_size", "width", "layers", "heads", "kv_heads", "head_dim", "hidden")
        for name in (*sizes, "max_length", *(["window"] if self.window is not None else [])):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.layers > MOST_LAYERS:
            raise ValueError(f"layers must be at most {MOST_LAYERS}, got {self.layers}")
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads {self.kv_heads} must divide heads {self.heads}")
        for name, forms in FORMS.items():
            if getattr(self, name) not in forms:
                raise ValueError(f"{name} must be one of {forms}, got {getattr(self, name)!r}")
        if self.layer_kinds and len(self.layer_kinds) < self.layers:
            raise ValueError(f"{len(self.layer_kinds)} layer_kinds for {self.layers} layers")
        turned = [kind.rotary for kind in map(self.kind, range(self.layers)) if kind.rotary]
        for width in {rotary.width or self.head_dim for rotary in turned}:
            name = "head_dim" if width == self.head_dim else "rotary_width"
            if width % 2:
                raise ValueError(f"{name} must be even for rotary positions, got {width}")
            if not 2 <= width <= self.head_dim:
                raise ValueError(f"{name} must be 2 to head_dim {self.head_dim}, got {width}")

    def kind(self, layer: int) -> LayerKind:
        """Window and rotary of a layer."""
        if self.layer_kinds:
            return self.layer_kinds[layer]
        if self.positions == "learned":
            return LayerKind(self.window, None)
        return LayerKind(self.window, Rotary(self.rope_theta, self.rotary_width, self.rope_scaling))


def _of(kind: type, value: Any) -> Any:
    """An instance of `kind` from one, or from a dict of its fields; None stays None."""
    if not isinstance(value, Mapping):
        return value
    try:
        return kind(**value)
    except TypeError as error:  # a field that there is not
        raise ValueError(f"{kind.__name__}: {error}") from None
