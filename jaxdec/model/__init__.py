"""The model contract, and wrappers from one model to another."""

from jaxdec.model.canvas import canvas_model
from jaxdec.model.classified_exits import classified_exits
from jaxdec.model.contract import Heads, Inputs, Mixture, Model, Output, Params, Queries, ScoreHead
from jaxdec.model.early_exit import Readout, early_exit, readout
from jaxdec.model.function import from_function
from jaxdec.model.mask_blocks import MaskBlocks, mask_blocks
from jaxdec.model.masked_rows import masked_rows
from jaxdec.model.next_token import next_token
from jaxdec.model.nnx import from_nnx, heads_from_nnx, score_from_nnx
from jaxdec.model.order import Order, prompt_inputs, score
from jaxdec.model.recomputed import recomputed
from jaxdec.model.routed_layers import routed_layers
from jaxdec.model.shifted import shifted, unshifted
from jaxdec.model.skip_decode import skip_decode
from jaxdec.model.tapped import tapped
from jaxdec.model.two_stream import two_stream

__all__ = [
    "Heads",
    "Inputs",
    "MaskBlocks",
    "Mixture",
    "Model",
    "Order",
    "Output",
    "Params",
    "Queries",
    "Readout",
    "ScoreHead",
    "canvas_model",
    "classified_exits",
    "early_exit",
    "from_function",
    "from_nnx",
    "heads_from_nnx",
    "mask_blocks",
    "masked_rows",
    "next_token",
    "prompt_inputs",
    "readout",
    "recomputed",
    "routed_layers",
    "score",
    "score_from_nnx",
    "shifted",
    "skip_decode",
    "tapped",
    "two_stream",
    "unshifted",
]
