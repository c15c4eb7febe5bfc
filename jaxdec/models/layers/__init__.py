"""Layers that architectures share: rotary positions, norms, attention, feed-forward units, mixtures of experts."""

from jaxdec.models.layers.attention import Attention, committed, empty_cache
from jaxdec.models.layers.embedding import rows
from jaxdec.models.layers.linear import linear
from jaxdec.models.layers.mixture import Experts, Mixture, choose
from jaxdec.models.layers.mlp import ACTIVATIONS, MLP
from jaxdec.models.layers.norm import Norm
from jaxdec.models.layers.rotary import Rotary, Scaling

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "Attention",
    "Experts",
    "Mixture",
    "Norm",
    "Rotary",
    "Scaling",
    "choose",
    "committed",
    "empty_cache",
    "linear",
    "rows",
]
