"""Compiles a decode of a mixture over rows and experts for a TPU that is not there; prints its collectives as JSON.

    python -m tests.parallel.expert_compile replicated

For each operation in the loops: its kind, the numbers in its result and their type. A process of its own:
see `tests.parallel.no_tpu`.
"""

from tests.parallel import no_tpu  # noqa: F401  # isort: skip

import dataclasses
import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental import topologies

import jaxdec
from jaxdec import decoding, parallel
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.models.layers import Mixture, use_experts
from jaxdec.sampling import row_keys
from pallas_kernels import use

CONFIG = TransformerConfig(
    vocab_size=512, width=512, layers=2, heads=8, kv_heads=4, head_dim=128, hidden=512,
    mixture=Mixture(16, 2, 256, shared_hidden=256),
)  # fmt: skip
BATCH, NODES = 16, 15
KINDS = "all-reduce|all-gather|all-to-all|ragged-all-to-all|collective-permute|reduce-scatter"


def in_loops(text):
    """`(kind, numbers)` of each collective in a `while` loop and in all that it calls."""
    computations, name = {}, ""
    for line in text.splitlines():
        opened = re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{\s*$", line)
        name = opened[1] if opened else name
        computations.setdefault(name, []).append(line)
    called = lambda line: [n for n in re.findall(r"%([\w.\-]+)", line) if n in computations]
    todo = [
        n
        for lines in computations.values()
        for line in lines
        if " while(" in line
        for n in called(line)
    ]
    seen = set()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += [n for line in computations[name] for n in called(line)]
    found = []
    for line in (line for name in seen for line in computations[name]):
        match = re.search(rf"= (.*?) ({KINDS})(?:-start)?\(", line)
        if match:
            shapes = re.findall(r"(\w+)\[([\d,]*)\]", match[1])
            sizes = [int(np.prod([int(n) for n in s.split(",") if n])) for _, s in shapes]
            found.append((match[2], max(sizes), shapes[0][0]))
    return sorted(found)


def main(form):
    shared = 0 if form == "speculative" else CONFIG.mixture.shared_hidden
    mixture = dataclasses.replace(CONFIG.mixture, shared_hidden=shared)
    config = dataclasses.replace(CONFIG, mixture=mixture)
    model, params = jaxdec.from_nnx(
        nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0))), dtype=jnp.bfloat16
    )
    params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), params)
    decoder = jaxdec.speculative(
        model, drafter=jaxdec.drafters.lookup_tree(nodes=NODES, max_ngram=2)
    )
    devices = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4").devices
    place = parallel.placement(data=2, model=4, devices=devices)
    prompt = np.ones((BATCH, 16), np.int32)
    request = jaxdec.prepare(decoder, {"target": params}, prompt, max_new_tokens=32)

    def decode(params, request, keys):
        with use("reference"), use_experts(form):
            state = decoding.init(decoder, params, request, placement=place)
            return decoding.run(decoder, params, state, keys, placement=place)

    keys = row_keys(0, BATCH)
    shapes = jax.eval_shape(lambda *a: a, {"target": params}, request, keys)
    text = jax.jit(decode).trace(*shapes).lower(lowering_platforms=("tpu",)).compile().as_text()
    print(json.dumps(in_loops(text)))


if __name__ == "__main__":
    main(sys.argv[1])
