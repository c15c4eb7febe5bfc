"""Kernels for TPUs where JAX has 64-bit types: what is lowered for the device holds none of them."""

import functools
import itertools
import re

import jax
import pytest

from pallas_kernels.commit import cases as commit_cases
from pallas_kernels.commit import commit, write
from pallas_kernels.span_attention import cases as attention_cases
from pallas_kernels.unmask import cases as unmask_cases
from pallas_kernels.unmask import unmask
from pallas_kernels.verify import cases as verify_cases
from pallas_kernels.verify import ratio_walk, walk

BANS = next(case for case in verify_cases.SMALL if case.bans)
CALLS = {
    "walk": (functools.partial(walk, depth=BANS.depth), verify_cases.walk_shapes(BANS)),
    "ratio walk": (
        functools.partial(ratio_walk, depth=BANS.depth),
        verify_cases.ratio_shapes(BANS),
    ),
    "unmask": (unmask, unmask_cases.SMALL[2].shapes()),
    "unmask, fused": (unmask, unmask_cases.SMALL[3].shapes()),
    "commit": (commit, commit_cases.SMALL[1].shapes()),
    "write": (write, commit_cases.SMALL_WRITES[1].write_shapes()),
    "span attention": (
        lambda given, implementation: attention_cases.SMALL[2].call(implementation)(given),
        (attention_cases.SMALL[2].shapes(),),
    ),
}
PLATFORMS = {"tpu": "tpu", "gpu": "cuda"}


@pytest.mark.parametrize(
    ("name", "implementation"),
    [pair for pair in itertools.product(CALLS, PLATFORMS) if pair != ("ratio walk", "gpu")],
)
def test_kernels_lower_for_their_device(name, implementation):
    function, shapes = CALLS[name]
    call = jax.jit(functools.partial(function, implementation=implementation))
    with jax.enable_x64(True):
        traced = call.trace(*shapes)
        lowered = traced.lower(lowering_platforms=(PLATFORMS[implementation],)).as_text()
    outputs = jax.tree.leaves(traced.out_info)
    assert not [x for x in outputs if x.dtype.itemsize == 8]
    assert "tpu_custom_call" in lowered or "triton" in lowered
    assert not re.search("xf64>", lowered)
