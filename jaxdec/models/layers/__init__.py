"""Layers that architectures share: rotary positions, norms, attention, feed-forward units, mixtures of experts."""

from jaxdec.models.layers.attention import Attention, committed, empty_cache
from jaxdec.models.layers.embedding import rows
from jaxdec.models.layers.expert_parallel import use_experts
from jaxdec.models.layers.experts import Bank, weighted_sum
from jaxdec.models.layers.linear import linear
from jaxdec.models.layers.lstm import LSTM
from jaxdec.models.layers.mixture import Experts, Mixture, choose
from jaxdec.models.layers.mlp import ACTIVATIONS, MLP
from jaxdec.models.layers.norm import Norm
from jaxdec.models.layers.rotary import Rotary, Scaling
from jaxdec.models.layers.routing import Routed, balance_loss, guess_next, recorded

__all__ = [
    "ACTIVATIONS",
    "LSTM",
    "MLP",
    "Attention",
    "Bank",
    "Experts",
    "Mixture",
    "Norm",
    "Rotary",
    "Routed",
    "Scaling",
    "balance_loss",
    "choose",
    "committed",
    "empty_cache",
    "guess_next",
    "linear",
    "recorded",
    "rows",
    "use_experts",
    "weighted_sum",
]
