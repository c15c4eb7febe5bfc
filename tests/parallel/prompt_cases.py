"""Prompts and states of linear attention in shares against whole ones: see `tests.parallel.sequence_cases`."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import jaxdec
from jaxdec import parallel
from jaxdec.cache import SequenceCache, state_before
from jaxdec.model import prompt_inputs
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.testing.oracles import hash_oracle, recurrent_oracle
from jaxdec.visibility import causal
from tests.parallel.collectives import collectives, counts, total
from tests.parallel.linear_network import linear_network

VOCAB, B, WIDTH, CAPACITY = 11, 3, 26, 48
LENGTHS = np.array([26, 9, 1], np.int32)
CONFIG = TransformerConfig(
    vocab_size=VOCAB, width=16, layers=2, heads=4, kv_heads=2, head_dim=8, hidden=16, window=7
)
MODELS = {
    "oracle": hash_oracle(VOCAB, seed=1),
    "network": jaxdec.from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(2))),
    "linear": linear_network(VOCAB),
}


def over(devices):
    mesh = Mesh(np.asarray(jax.devices()[:devices]), ("sequence",))
    return functools.partial(jax.shard_map, mesh=mesh, check_vma=False, in_specs=P(), out_specs=P())


def arguments():
    prompt = jnp.asarray(np.random.default_rng(0).integers(0, VOCAB, (B, WIDTH)), jnp.int32)
    index = jnp.broadcast_to(jnp.arange(WIDTH, dtype=jnp.int32), (B, WIDTH))
    return prompt_inputs(prompt, jnp.asarray(LENGTHS), None), index


def seen(cache):
    """All that a forward can read of a cache, and what lies in slots that nobody sees as zeros."""
    held = [cache.read(layer) for layer in range(cache.layers)]
    if not isinstance(cache, SequenceCache) and not hasattr(held[0], "key_spans"):
        return held, cache.length
    keys = [x.whole() if isinstance(cache, SequenceCache) else x for x in held]
    live = keys[0].key_spans[..., 0] < 2**30
    clear = lambda x: jnp.where(live[:, None, :, None], x, 0)
    return (
        [(clear(x.keys), clear(x.values)) for x in keys],
        keys[0].key_spans,
        jnp.where(live, keys[0].positions, 0),
        cache.length,
    )


def shares(name, form, devices):
    """The cache and the laws of prompts that are read in shares."""
    model, params = MODELS[name]
    inputs, index = arguments()
    count, spans = jnp.asarray(LENGTHS - 1), causal(index).key_spans

    def split(params, inputs):
        cache = SequenceCache.split(model.init_cache(B, CAPACITY), "sequence", devices)
        found = parallel.read_shares(model, params, inputs, cache, count, spans, "sequence", form)
        cache, output = found
        return seen(cache), output.logits

    def whole(params, inputs):
        output = model(params, inputs, None)
        cache = model.init_cache(B, CAPACITY).commit(output.entries, index, count, spans)
        return seen(cache), output.logits

    (got, laws), (wanted, expected) = (
        jax.jit(call)(params, inputs) for call in (over(devices)(split), whole)
    )
    real = np.arange(WIDTH) < LENGTHS[:, None]
    close = functools.partial(np.allclose, rtol=1e-4, atol=1e-5)
    wrong = [] if close(laws[real], expected[real]) else ["laws"]
    same = [close(a, b) for a, b in zip(*map(jax.tree.leaves, (got, wanted)), strict=True)]
    return wrong + ([] if all(same) else [f"cache: {same}"])


def states(form):
    """The state before each device, against a loop in float64, and what is sent for it."""
    rng, shape = np.random.default_rng(0), (8, 2, 3, 4, 4)
    added = rng.normal(size=shape).astype(np.float32)
    decays = rng.random((8, 2, 3, 1, 1)).astype(np.float32)
    decays[3, 0] = 0  # forgets
    start = rng.normal(size=shape[1:]).astype(np.float32)
    before = lambda x, a, start: state_before(x[0], a[0], start, "sequence", form)[None]
    split = over(8)(before, in_specs=(P("sequence"), P("sequence"), P()), out_specs=P("sequence"))
    program = jax.jit(split).lower(added, decays, start).compile()
    state, wanted = start.astype(float), []
    for r in range(8):
        wanted.append(state)
        state = decays[r] * state + added[r]
    wrong = [] if np.allclose(program(added, decays, start), wanted, atol=1e-5) else ["states"]
    found = collectives(program.as_text())
    size = 4 * start.size
    planned = {
        # All states and their decays, once.
        "gather": ({"all-gather": 1}, 8 * (size + 4 * 2 * 3)),
        # A quarter of a state over each link in each of 7 + 3 steps.
        "chain": ({"collective-permute": 10}, 10 * size // 4),
    }[form]
    if (counts(found), total(found)) != planned:
        wrong.append(f"communicates {counts(found)}, {total(found)} bytes; planned {planned}")
    return wrong


def read_whole():
    """Models that know nothing of shares, or read the row before each, say so."""
    model, params = recurrent_oracle(VOCAB)
    shifted = dataclasses.replace(MODELS["oracle"][0], reads_before=True)
    inputs, index = arguments()
    spans = causal(index).key_spans
    found = []

    def body(params, inputs):
        for asked in (model, shifted):
            cache = SequenceCache.split(asked.init_cache(B, CAPACITY), "sequence", 4)
            found.append(
                parallel.read_shares(asked, params, inputs, cache, LENGTHS, spans, "sequence")
            )
        return 0

    jax.eval_shape(over(4)(body), params, inputs)
    return [str(x) for x in found if x is not None]


def decoded():
    """A linear network's tokens on a mesh."""
    model, params = MODELS["linear"]
    decoder = jaxdec.autoregressive(model)
    prompt = np.random.default_rng(0).integers(0, VOCAB, (4, 6))
    knobs = {"rng": 7, "temperature": 0.9, "lengths": [6, 1, 3, 2], "max_new_tokens": 9}
    call = functools.partial(jaxdec.generate, decoder, {"target": params}, prompt, **knobs)
    place = parallel.placement(data=2, sequence=4, attention="ring")
    same = np.array_equal(call().tokens, call(placement=place).tokens)
    return [] if same else ["tokens"]


CASES = {
    "network, ring, 3 devices": (shares, "network", "ring", 3),
    "linear, ring, 8 devices": (shares, "linear", "ring", 8),
    "states, gather": (states, "gather"),
    "states, chain": (states, "chain"),
    "read whole": (read_whole,),
}
SLOW = {
    "oracle, gather, 8 devices": (shares, "oracle", "gather", 8),
    "network, gather, 8 devices": (shares, "network", "gather", 8),
    "network, bidirectional, 4 devices": (shares, "network", "bidirectional", 4),
    "linear, gather, 3 devices": (shares, "linear", "gather", 3),
    "linear, decoded": (decoded,),
}
