"""Compiles whole decodes for a TPU that is not there; prints what their loops communicate as JSON.

    python -m tests.parallel.tpu_compile causal placed v5e:2x2 v6e:2x4

The decode continues prompts (`causal`, or `plain` with caches that no chip holds in its own memory), fills gaps with
the fused form (`infill`) or fills a canvas (`canvas`); `large` and `large_canvas` have heads of an 8B-class model and
64 new tokens a step. Rows are split by a placement (`placed`; `kernels` with those of TPUs, asked for by name,
`default` with what a TPU gets; `engine` serves requests with them) or left to automatic sharding (`automatic`); `split`
splits the heads, too, over all but two of the devices, of networks in bfloat16 (`wide_` programs). A process of its
own: see `tests.parallel.no_tpu`.
"""

from tests.parallel import no_tpu  # noqa: F401  # isort: skip

import dataclasses
import json
import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental import topologies
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jaxdec
import pallas_kernels
from jaxdec import any_subset, decoding, diffusion, parallel
from jaxdec.decoding import by_row, placed
from jaxdec.generation.requests import NO_LIMIT, FirstCome, SlotEngine, programs
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.planning import facts

BATCH = 16


def transformer(width, layers, heads, head_dim=None):
    config = TransformerConfig(
        vocab_size=260,
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=heads // 2,
        head_dim=head_dim or width // heads,
        hidden=2 * width,
    )
    return jaxdec.from_nnx(nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0))))


def infilling():
    """Filling gaps, as `causal` continues prompts."""
    raw, target_params = transformer(256, layers=2, heads=4)
    params = {"target": target_params}
    decoder = any_subset.fused(any_subset.two_stream(raw, 259), width=4, nodes=6, outcomes=4)
    tokens = np.ones((BATCH, 48), np.int32)
    visible = np.broadcast_to(np.arange(48) % 3 == 0, tokens.shape)
    request = jaxdec.prepare_infill(decoder, params, tokens, visible, temperature=0.8)
    keys = jax.random.split(jax.random.key(0), BATCH)
    return decoder, jax.eval_shape(lambda *x: x, params, request, keys)


def causal():
    """The decoder and the shapes of its arguments; no array is made on any device of the topology."""
    target, target_params = transformer(256, layers=2, heads=4)
    draft, draft_params = transformer(64, layers=1, heads=2)
    decoder = jaxdec.speculative(target, drafter=jaxdec.drafters.model(draft, length=4))
    params = {"target": target_params, "draft": draft_params}
    prompt = np.ones((BATCH, 16), np.int32)
    knobs = {"temperature": 0.8, "repetition_penalty": 1.1}
    stops = {"eos": [257], "stop": [[1, 2]]}
    request = jaxdec.prepare(decoder, params, prompt, max_new_tokens=32, **stops, **knobs)
    keys = jax.random.split(jax.random.key(0), BATCH)
    return decoder, jax.eval_shape(lambda *x: x, params, request, keys)


def plain():
    """Plain decoding: 64 rows of 1,064 slots, a gigabyte of keys and values."""
    raw, target_params = transformer(256, layers=2, heads=16, head_dim=128)
    params = {"target": target_params}
    decoder = jaxdec.autoregressive(raw)
    prompt = np.ones((64, 16), np.int32)
    request = jaxdec.prepare(decoder, params, prompt, max_new_tokens=1000)
    keys = jax.random.split(jax.random.key(0), 64)
    return decoder, jax.eval_shape(lambda *x: x, params, request, keys)


def beams():
    """Beam search as `plain` decodes: 8 prompts of 8 hypotheses, whose rows move."""
    raw, target_params = transformer(256, layers=2, heads=16, head_dim=128)
    params = {"target": target_params}
    decoder = jaxdec.search.beams(raw)
    prompt = np.ones((8, 16), np.int32)
    request = jaxdec.prepare(decoder, params, prompt, max_new_tokens=1000, hypotheses=8, eos=[257])
    keys = jax.random.split(jax.random.key(0), 64)
    return decoder, jax.eval_shape(lambda *x: x, params, request, keys)


@dataclasses.dataclass(frozen=True)
class Rereads:
    """A decoder whose step reads the old cache after the commit, so that both must exist."""

    inner: decoding.Decoder

    def step(self, params, state, rng):
        after, info = self.inner.step(params, state, rng)
        new, old = after.cache.read(0).keys, state.cache.read(0).keys
        slot = new[0, 0, 0, 0].astype(np.int32)
        read = jax.lax.dynamic_index_in_dim(old, slot, 2).sum((1, 2, 3)).astype(np.int32)
        cache = dataclasses.replace(after.cache, length=after.cache.length + read)
        return dataclasses.replace(after, cache=cache), info

    def __getattr__(self, name):
        return getattr(self.inner, name)


def rereads():
    decoder, shapes = plain()
    return Rereads(decoder), shapes


def canvas():
    """Denoising in blocks with a cache whose wide steps stand in a conditional."""
    raw, target_params = transformer(256, layers=2, heads=4)
    params = {"target": target_params}
    decoder = jaxdec.denoise(
        diffusion.canvas_model(raw, 259),
        schedule=diffusion.schedules.blocks(8),
        refresh=diffusion.refresh.dual(),
    )
    prompt = np.ones((BATCH, 16), np.int32)
    stops = {"eos": [257], "stop": [[1, 2]]}
    request = jaxdec.prepare(decoder, params, prompt, max_new_tokens=32, temperature=0.8, **stops)
    keys = jax.random.split(jax.random.key(0), BATCH)
    return decoder, jax.eval_shape(lambda *x: x, params, request, keys)


def large_transformer():
    config = TransformerConfig(
        vocab_size=4096,
        width=512,
        layers=2,
        heads=32,
        kv_heads=8,
        head_dim=128,
        hidden=1024,
        max_length=8192,
    )
    return jaxdec.from_nnx(nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0))))


def large_shapes(decoder, params, tokens):
    """Shapes of a request that fills 8,192 slots."""
    prompt = np.ones((BATCH, 64), np.int32)
    prepare = lambda: jaxdec.prepare(
        decoder, params, prompt, max_new_tokens=tokens, temperature=0.8, eos=[7]
    )
    keys = jax.random.split(jax.random.key(0), BATCH)
    return jax.eval_shape(lambda *x: x, params, prepare(), keys)


def large():
    """Speculation with trees of 63 nodes and the pending token."""
    target, params = large_transformer()
    params = {"target": params}
    decoder = jaxdec.speculative(target, drafter=jaxdec.drafters.prompt_lookup(length=63))
    return decoder, large_shapes(decoder, params, 8192 - 64 - 64)


def large_canvas():
    """Blocks of 64 with the exact cache."""
    raw, params = large_transformer()
    decoder = jaxdec.denoise(
        diffusion.canvas_model(raw, 4095),
        schedule=diffusion.schedules.blocks(64),
        attention="causal",
        refresh=diffusion.refresh.block(),
    )
    return decoder, large_shapes(decoder, {"target": params}, 8192 - 64)


WIDE = TransformerConfig(
    vocab_size=4096,
    width=1024,
    layers=2,
    heads=16,
    kv_heads=8,
    head_dim=128,
    hidden=2048,
    max_length=2048,
    tied=False,
)
"""A network whose heads divide over eight devices."""


def wide(build, **request):
    """A decoder over a network in bfloat16, and the shapes of its arguments."""
    model, params = jaxdec.from_nnx(
        nnx.eval_shape(lambda: Transformer(WIDE, rngs=nnx.Rngs(0))), dtype=jnp.bfloat16
    )
    params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), params)
    decoder, params = build(model), {"target": params}
    if request:
        asked = jaxdec.prepare_infill(decoder, params, **request, temperature=0.8)
    else:
        prompt = np.ones((BATCH, 64), np.int32)
        asked = jaxdec.prepare(
            decoder, params, prompt, max_new_tokens=900, temperature=0.8, eos=[7]
        )
    keys = jax.random.split(jax.random.key(0), BATCH)
    return decoder, jax.eval_shape(lambda *x: x, params, asked, keys)


def wide_plain():
    return wide(jaxdec.autoregressive)


def wide_tree():
    """A tree of 15 nodes from the text so far."""
    return wide(
        lambda model: jaxdec.speculative(model, drafter=jaxdec.drafters.lookup_tree(nodes=15))
    )


def wide_canvas():
    """Blocks of 16 with the exact cache."""

    def build(model):
        return jaxdec.denoise(
            diffusion.canvas_model(model, 5),
            schedule=diffusion.schedules.blocks(16),
            attention="causal",
            refresh=diffusion.refresh.block(),
        )

    return wide(build)


def wide_infill():
    """Plain decoding in the order of the gaps."""
    tokens = np.ones((BATCH, 64), np.int32)
    visible = np.broadcast_to(np.arange(64) % 3 == 0, tokens.shape)
    build = lambda model: jaxdec.autoregressive(any_subset.two_stream(model, 5))
    return wide(build, tokens=tokens, visible=visible)


def large_dual():
    """Blocks of 64 that see the whole canvas, whose other entries are kept while a block is decoded."""
    raw, params = large_transformer()
    decoder = jaxdec.denoise(
        diffusion.canvas_model(raw, 4095),
        schedule=diffusion.schedules.blocks(64),
        refresh=diffusion.refresh.dual(),
    )
    return decoder, large_shapes(decoder, {"target": params}, 8192 - 64)


def compiled_text(function, shapes, place):
    shardings = jax.tree.map(
        lambda spec: NamedSharding(place.mesh, spec),
        (place.specs(shapes[0]), placed.specs(place, shapes[1]), P(parallel.DATA)),
        is_leaf=lambda node: isinstance(node, P),
    )
    jitted = jax.jit(function, in_shardings=shardings)
    return jitted.trace(*shapes).lower(lowering_platforms=("tpu",)).compile().as_text()


def on_a_mesh(decoder, place):
    def decode(params, request, keys):
        state = decoding.init(decoder, params, request, placement=place)
        return decoding.run(decoder, params, state, keys, placement=place)

    return decode


def with_kernels(decoder, place):
    def decode(params, request, keys):
        with pallas_kernels.use("tpu"):
            return on_a_mesh(decoder, place)(params, request, keys)

    return decode


def on_a_tpu(decoder, place):
    """As a program that names no implementation is traced on a machine with a TPU."""

    def decode(params, request, keys):
        with mock.patch.object(jax, "default_backend", lambda: "tpu"):
            return on_a_mesh(decoder, place)(params, request, keys)

    return decode


def engine(decoder, place):
    """The slot engine: refilled inside the loop, with kernels; what it is asked for stands in its queue."""

    def serve(params, request, keys):
        first = lambda x: x[:1]
        row = by_row(dataclasses.replace(request, cache=None), first, lambda stops: stops)
        slots = SlotEngine(decoder, FirstCome(), chunk=64, ring=4)
        per_lane = BATCH // place.size(parallel.DATA)
        with pallas_kernels.use("tpu"):
            state = programs.start(slots, place, params, row, keys[0], per_lane, 8)
            return programs.advance(slots, place, params, state, np.int32(100), NO_LIMIT)

    return serve


def automatic(decoder, place):
    def decode(params, request, keys):
        state = decoding.init(decoder, params, request)
        return decoding.run(decoder, params, state, keys)

    return decode


def main(program, kind, topology_names):
    programs = {"causal": causal, "infill": infilling, "canvas": canvas, "plain": plain}
    programs["beams"] = beams
    programs |= {
        "rereads": rereads,
        "large": large,
        "large_canvas": large_canvas,
        "large_dual": large_dual,
    }
    programs |= {"wide_plain": wide_plain, "wide_tree": wide_tree}
    programs |= {"wide_canvas": wide_canvas, "wide_infill": wide_infill}
    decoder, shapes = programs[program]()
    report = {}
    for name in topology_names:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=name).devices
        rows = 2 if kind == "split" else len(devices)
        place = parallel.placement(data=rows, model=len(devices) // rows, devices=devices)
        kinds = {"placed": on_a_mesh, "automatic": automatic, "split": with_kernels}
        kinds |= {"kernels": with_kernels, "default": on_a_tpu, "engine": engine}
        text = compiled_text(kinds[kind](decoder, place), shapes, place)
        report[name] = {"devices": len(devices), **facts(text)}
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:3], sys.argv[3:])
