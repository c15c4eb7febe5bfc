"""The public names of `jaxdec`, which imports this module when the first of them is used."""

from jaxdec import any_subset, diffusion, models, sampling, text, visibility
from jaxdec.autoregressive import Autoregressive, autoregressive
from jaxdec.cache import KVCache
from jaxdec.checkpoints import Checkpoint, load
from jaxdec.decoding import (
    Decoder,
    Exactness,
    Info,
    Record,
    Status,
    run,
    stream,
)
from jaxdec.diffusion import Denoise, denoise
from jaxdec.gap_length import choose_length
from jaxdec.generation import Result, acceptance_by_depth, generate, prepare
from jaxdec.infilling import Infilled, infill, prepare_infill
from jaxdec.model import Inputs, Model, Output, from_nnx
from jaxdec.sampling import Warp
from jaxdec.speculative import (
    Adaptive,
    RankTree,
    Speculative,
    adaptive,
    drafters,
    growths,
    speculative,
    verifiers,
)
from jaxdec.tuning import auto_draft_length, auto_infill

__all__ = [
    "Adaptive",
    "Autoregressive",
    "Checkpoint",
    "Decoder",
    "Denoise",
    "Exactness",
    "Infilled",
    "Info",
    "Inputs",
    "KVCache",
    "Model",
    "Output",
    "RankTree",
    "Record",
    "Result",
    "Speculative",
    "Status",
    "Warp",
    "acceptance_by_depth",
    "adaptive",
    "any_subset",
    "auto_draft_length",
    "auto_infill",
    "autoregressive",
    "choose_length",
    "denoise",
    "diffusion",
    "drafters",
    "from_nnx",
    "generate",
    "growths",
    "infill",
    "load",
    "models",
    "prepare",
    "prepare_infill",
    "run",
    "sampling",
    "speculative",
    "stream",
    "text",
    "verifiers",
    "visibility",
]
