"""The public names of `jaxdec`, which imports this module when the first of them is used."""

from jaxdec import any_subset, byte_level, diffusion, models, sampling, search, text, visibility
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
from jaxdec.generation import (
    Infilled,
    Result,
    acceptance_by_depth,
    auto_draft_length,
    auto_infill,
    choose_length,
    generate,
    generated_texts,
    infill,
    prepare,
    prepare_infill,
    requests,
    stream_text,
)
from jaxdec.measuring.choosing import auto
from jaxdec.measuring.forwards import ForwardCosts, forward_costs
from jaxdec.model import Inputs, Model, Output, from_nnx
from jaxdec.sampling import Warp, watermarks
from jaxdec.speculative import (
    Adaptive,
    RankTree,
    Speculative,
    adaptive,
    drafters,
    growth,
    lengths,
    speculative,
    verifiers,
)

__all__ = [
    "Adaptive",
    "Autoregressive",
    "Checkpoint",
    "Decoder",
    "Denoise",
    "Exactness",
    "ForwardCosts",
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
    "auto",
    "auto_draft_length",
    "auto_infill",
    "autoregressive",
    "byte_level",
    "choose_length",
    "denoise",
    "diffusion",
    "drafters",
    "forward_costs",
    "from_nnx",
    "generate",
    "generated_texts",
    "growth",
    "infill",
    "lengths",
    "load",
    "models",
    "prepare",
    "prepare_infill",
    "requests",
    "run",
    "sampling",
    "search",
    "speculative",
    "stream",
    "stream_text",
    "text",
    "verifiers",
    "visibility",
    "watermarks",
]
