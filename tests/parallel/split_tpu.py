"""Compiles attention over split keys for TPUs that are not there; prints what is in flight while a kernel runs as JSON.

A process of its own: see `tests.parallel.no_tpu`.
"""

from tests.parallel import no_tpu  # noqa: F401  # isort: skip

import json
import re

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from pallas_kernels.span_attention import Keys, Split, span_attention, tokens_split
from tests.parallel.collectives import collectives, counts

B, H, K, S, T, D = 2, 32, 8, 8192, 2048, 128
HEADS, ROWS = P(None, None, "sequence"), P(None, "sequence")


def arguments():
    """A prompt and a cache, in heads of an 8B-class model."""
    struct = lambda shape, dtype: jax.ShapeDtypeStruct(shape, dtype)
    half = lambda *shape: struct(shape, jax.numpy.bfloat16)
    whole = lambda *shape: struct(shape, np.int32)
    keys = lambda count: Keys(half(B, K, count, D), half(B, K, count, D), whole(B, count, 2))
    return half(B, H, T, D), whole(B, T, 2), keys(S), keys(T)


def text(form, queries, mesh):
    """The compiled program, prompts in shares or a few queries on every device."""

    def shared(asked, spans, cached, new):
        with tokens_split("sequence", form):
            kernel = {"implementation": "tpu"}
            return span_attention(asked, spans, Split(cached, "sequence"), new, **kernel)

    def whole(asked, spans, cached, new):
        few = new._replace(
            **{name: x[:, :, :64] for name, x in (("keys", new.keys), ("values", new.values))}
        )
        few = few._replace(key_spans=new.key_spans[:, :64])
        part = Split(cached, "sequence", form)
        return span_attention(asked[:, :, :64], spans[:, :64], part, few, implementation="tpu")

    part = Keys(HEADS, HEADS, ROWS)
    if queries == "shared":
        specs, out, body = (HEADS, ROWS, part, part), HEADS, shared
    else:
        specs, out, body = (P(), P(), part, Keys(P(), P(), P())), P(), whole
    mapped = jax.shard_map(body, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)
    place = lambda spec: NamedSharding(mesh, spec)
    shardings = jax.tree.map(place, specs, is_leaf=lambda node: isinstance(node, P))
    jitted = jax.jit(mapped, in_shardings=shardings)
    return jitted.trace(*arguments()).lower(lowering_platforms=("tpu",)).compile().as_text()


def in_flight(program):
    """For each kernel in the program's order: how many keys, queries or results travel while it runs."""
    travelling, found = 0, []
    for line in program.splitlines():
        travelling += len(re.findall(r" collective-permute-start\(", line))
        travelling -= len(re.findall(r" collective-permute-done\(", line))
        if "tpu_custom_call" in line:
            found.append(travelling)
    return found


def main():
    devices = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices
    mesh = Mesh(np.asarray(devices), ("sequence",))
    report = {}
    asked = (("gather", "whole"), ("ring", "shared"), ("bidirectional", "shared"))
    for form, queries in asked:
        program = text(form, queries, mesh)
        report[form] = {"counts": counts(collectives(program)), "in_flight": in_flight(program)}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
