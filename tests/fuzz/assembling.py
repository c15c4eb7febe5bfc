"""Decoders made of parts: every public factory with arguments of any kind, and parts in one another's place.

What is taken is hashable, and `prepare` takes or refuses it; nothing is decoded, so that no program is compiled.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

import jaxdec
from jaxdec import any_subset, diffusion, drafters, growth, verifiers
from jaxdec.model import Heads
from jaxdec.speculative import RankTree
from jaxdec.testing import oracles
from tests.fuzz import subjects
from tests.fuzz.subjects import V
from tests.fuzz.surface import REFUSED, TAKEN, Surface, check_message
from tests.fuzz.values import junk, made

HEADS = Heads(lambda params, hidden, path: hidden, heads=2, width=V, vocab_size=V)
CANVAS = oracles.canvas(subjects.MODEL, mask_token=V - 1)
_parts = (
    diffusion.schedules,
    diffusion.unmask,
    diffusion.remask,
    diffusion.stop,
    diffusion.joint,
    diffusion.fuse,
    diffusion.grow,
)
FACTORIES: dict[str, Callable[..., Any]] = {
    **{f"drafters.{name}": getattr(drafters, name) for name in (
        "model", "eagle", "falcon", "heads", "dflash", "diffuspec", "jacobi", "speculative_jacobi", "lookahead",
        "lookup_tree", "prompt_lookup", "input_copy", "suffix_decoding", "searched_trigrams", "layer_skip",
        "dynamic_exit", "token_recycling", "trigram_tree", "trimmed",
    )},
    **{f"growth.{name}": getattr(growth, name) for name in (
        "chain", "fixed", "ranked", "greedy_siblings", "independent", "stochastic_beam", "threshold", "best_first",
    )},
    **{f"verifiers.{name}": getattr(verifiers, name) for name in (
        "TokenRatio", "BlockVerification", "KSeq", "RecursiveRejection", "SharedNoiseWalk", "TypicalAcceptance",
        "MixedTarget", "GroupRatio", "ClusterRatio", "NearTokens", "NearGreedy", "Reflective", "Judge",
    )},
    **{f"schedules.{name}": getattr(diffusion.schedules, name) for name in (
        "blocks", "whole", "cells", "coarse_to_fine", "delay", "depth", "diagonals", "partition", "raster",
        "scales", "semantic_blocks", "subsample",
    )},
    **{f"unmask.{name}": getattr(diffusion.unmask, name) for name in (
        "ancestral", "dynamic_threshold", "entropy_bound", "eos_early_rejection", "factor", "first_alone",
        "first_hitting", "guider", "in_blocks", "left_to_right", "leftmost", "quota", "saber", "shared_lines",
        "threshold",
    )},
    "remask.editing": diffusion.remask.editing,
    "remask.refining": diffusion.remask.refining,
    "remask.backtracking": diffusion.remask.backtracking,
    "stop.prophet": diffusion.stop.prophet,
    "grow.daedal": diffusion.grow.daedal,
    "fuse.orthogonal_repulsion": diffusion.fuse.orthogonal_repulsion,
    "fuse.credit": diffusion.fuse.credit,
    "joint.adjust": diffusion.adjust,
    "resample.energy": diffusion.energy,
    **{f"refresh.{name}": getattr(diffusion.refresh, name) for name in (
        "block", "dual", "frozen", "none", "prefix", "sub_block", "window",
    )},
    "any_subset.assd": any_subset.assd,
    "any_subset.fused": any_subset.fused,
    "any_subset.two_stream": any_subset.two_stream,
    "any_subset.masked_rows": any_subset.masked_rows,
    "RankTree.chain": RankTree.chain,
    "RankTree.branching": RankTree.branching,
    "RankTree.of": RankTree.of,
    "autoregressive": jaxdec.autoregressive,
    "speculative": jaxdec.speculative,
    "denoise": jaxdec.denoise,
}  # fmt: skip
DECODERS = ("autoregressive", "speculative", "denoise", "any_subset.assd", "any_subset.fused")
READY: dict[str, Callable[[], Any]] = {
    "a model": lambda: subjects.MODEL,
    "a canvas": lambda: CANVAS,
    "heads": lambda: HEADS,
    "a drafter": lambda: drafters.prompt_lookup(length=3),
    "a drafter with a model": lambda: drafters.model(subjects.MODEL, length=2),
    "a tree drafter": lambda: drafters.model(subjects.MODEL, growth=growth.best_first(4, 2)),
    "a growth rule": lambda: growth.chain(2),
    "a shape": lambda: RankTree.branching((2, 1)),
    "a verifier": lambda: verifiers.TokenRatio(),
    "a policy": lambda: diffusion.unmask.threshold(),
    "a schedule": lambda: diffusion.schedules.blocks(4),
    "a remask rule": lambda: diffusion.remask.backtracking(),
    "a stop": lambda: diffusion.stop.prophet(),
    "a fusion": lambda: diffusion.fuse.credit(),
    "a resampling rule": lambda: diffusion.energy(subjects.MODEL),
    "a refresh rule": lambda: diffusion.refresh.dual(2),
    "a span rule": lambda: diffusion.schedules.BlockCausal(),
    "a decoder": lambda: jaxdec.autoregressive(subjects.MODEL),
}
"""Things that may stand in any place, right or wrong."""
RIGHT = {
    "model": "a model", "heads": "heads", "drafter": "a drafter", "growth": "a growth rule", "shape": "a shape",
    "verifier": "a verifier", "unmask": "a policy", "policy": "a policy", "schedule": "a schedule",
    "remask": "a remask rule", "stop": "a stop", "fuse": "a fusion", "refresh": "a refresh rule",
    "resample": "a resampling rule",
}  # fmt: skip
"""What belongs in the place of a name; anything else is drawn as often."""


@dataclasses.dataclass(frozen=True)
class Ready:
    """Something of `READY`; shown by its name."""

    name: str


@dataclasses.dataclass(frozen=True)
class Made:
    """A call of a factory."""

    name: str
    arguments: dict[str, Any]


numbers = st.one_of(
    st.integers(-3, 9),
    st.floats(-1, 2),
    st.sampled_from([2**31, 2**70, -(2**70), np.nan, np.inf, True, False, None, "x", "", 1j, b"a"]),
    st.sampled_from(["random", "max_prob", "even", "cosine", "full", "causal", "self", "fused", "draft"]),
    st.lists(st.integers(-2, 9), max_size=5),
    st.lists(st.floats(0, 1), max_size=4).map(tuple),
    st.sampled_from([np.int64(3), np.float32(0.5), np.arange(4), np.zeros((2, 2))]),
)  # fmt: skip
ready = st.sampled_from(sorted(READY)).map(Ready)
anything = numbers | ready | junk
_fixed = ("exactness", "shares_noise", "chains_only", "needs_independence")  # of a verifier
_names = {
    name: [p for p in inspect.signature(f).parameters if p not in _fixed]
    for name, f in FACTORIES.items()
}
_needed = {
    name: [p.name for p in inspect.signature(f).parameters.values() if p.default is p.empty]
    for name, f in FACTORIES.items()
}


@st.composite
def calls(draw: Any) -> Made:
    name = draw(st.sampled_from(sorted(FACTORIES)))
    left = [parameter for parameter in _names[name] if parameter not in _needed[name]]
    more = draw(st.lists(st.sampled_from(left), max_size=3, unique=True)) if left else []
    arguments = {}
    for parameter in [*_needed[name], *more]:
        right = st.just(Ready(RIGHT[parameter])) if parameter in RIGHT else st.integers(1, 6)
        canvas = name == "denoise" and parameter == "model"
        right = st.just(Ready("a canvas")) if canvas else right
        arguments[parameter] = draw(st.one_of(right, right, anything))
    return Made(name, arguments)


PARAMS = {**subjects.PARAMS, "hostile": None}


def attempt(given: Made) -> str:
    arguments = {
        name: READY[value.name]() if isinstance(value, Ready) else made(value)
        for name, value in given.arguments.items()
    }
    signature = inspect.signature(FACTORIES[given.name])
    plain = [p.name for p in signature.parameters.values() if p.kind is not p.KEYWORD_ONLY]
    ordered = [
        arguments.pop(name)
        for name in list(arguments)
        if name in plain and name in _needed[given.name]
    ]
    try:
        part = FACTORIES[given.name](*ordered, **arguments)
    except ValueError as error:
        check_message(error)
        return REFUSED
    if given.name in DECODERS and prepared(part) is REFUSED:
        return REFUSED
    hash(part)
    assert part == part
    return TAKEN


def prepared(decoder: Any) -> str:
    prompt = np.array([[1, 2, 3], [4, 5, 0]])
    try:
        jaxdec.prepare(decoder, PARAMS, prompt, max_new_tokens=4)
    except ValueError as error:
        check_message(error)
        return REFUSED
    return TAKEN


SURFACE = Surface(
    name="parts",
    about="every factory of drafters, growth rules, verifiers, policies, schedules and decoders, with any arguments",
    inputs=calls(),
    attempt=attempt,
    short=60,
    slow=1000,
    long=10_000,
)
