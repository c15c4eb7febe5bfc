"""Mixtures whose experts lie over devices, against one device, on eight CPU devices; prints what is wrong as JSON.

A process of its own: see `tests.parallel.virtual`.
"""

from tests.parallel import virtual  # isort: skip

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxdec
from jaxdec import parallel, text
from jaxdec.model import Inputs, from_nnx
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.models.layers import Bank, Experts, Mixture, recorded, use_experts, weighted_sum
from jaxdec.models.layers.expert_parallel import AXIS, by_device, dispatch
from pallas_kernels import heads_over

CONFIG = TransformerConfig(
    vocab_size=11, width=8, layers=2, heads=4, kv_heads=4, head_dim=4, hidden=8,
    mixture=Mixture(8, 2, 4, shared_hidden=8),
)  # fmt: skip
MESH = Mesh(np.asarray(jax.devices()).reshape(2, 4), ("data", AXIS))
ROWS = NamedSharding(MESH, P("data"))
RNG = np.random.default_rng(0)


def layer(**changes):
    mixture = dataclasses.replace(CONFIG.mixture, **changes)
    return Experts(dataclasses.replace(CONFIG, mixture=mixture), rngs=nnx.Rngs(1))


def on_mesh(experts, form):
    """The layer as a loop calls it: manual over rows, the other axis left to the compiler."""
    graphdef, state = nnx.split(experts)

    def body(state, x):
        with use_experts(form), heads_over(AXIS):
            return nnx.merge(graphdef, state)(x)

    mapped = jax.shard_map(
        body, mesh=MESH, axis_names={"data"}, in_specs=(P(), P("data")), out_specs=P("data"),
        check_vma=False,
    )  # fmt: skip
    lies = lambda x: NamedSharding(MESH, P(AXIS) if x.ndim == 3 and len(x) % 4 == 0 else P())
    state = jax.tree.map(lambda x: jax.device_put(x, lies(x)), state)
    return jax.jit(mapped), state


def far(got, expected, tolerance=1e-5):
    error = float(np.abs(np.asarray(got, np.float32) - np.asarray(expected, np.float32)).max())
    return [] if error <= tolerance else [f"off by {error}"]


def equals_one_device(form, tokens, dtype=jnp.float32, **changes):
    experts = layer(**changes)
    if dtype != jnp.float32:
        nnx.update(experts, jax.tree.map(lambda x: x.astype(dtype), nnx.state(experts)))
    x = jnp.asarray(RNG.normal(size=(4, tokens, 8)), dtype)
    mapped, state = on_mesh(experts, form)
    scale = float(jnp.abs(experts(x)).max())
    return far(mapped(state, x), experts(x), scale * (1e-5 if dtype == jnp.float32 else 2e-2))


def rows_are_independent(form):
    """All tokens of the other rows crowd the experts of one token: nothing of it changes."""
    experts = layer()
    x = RNG.normal(size=(4, 16, 8)).astype(np.float32)
    crowd = np.broadcast_to(x[:1, :1], x.shape).copy()
    crowd[1] = x[1]
    mapped, state = on_mesh(experts, form)
    return far(mapped(state, crowd)[1], mapped(state, x)[1], 1e-5)


def collectives(form, expected):
    experts = layer()
    mapped, state = on_mesh(experts, form)
    x = jax.device_put(jnp.zeros((4, 16, 8)), ROWS)
    text = mapped.lower(state, x).compile().as_text()
    kinds = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    found = sorted(re.findall(rf" ({kinds})(?:-start)?\(", text))
    return [] if found == sorted(expected) else found


def any_capacity_and_home():
    """Wrong predictions of homes and tiny rounds cost time, and change nothing."""
    tokens, share = 37, 10
    bank = Bank(*(RNG.normal(size=s).astype(np.float32) for s in ((8, 8, 4), (8, 8, 4), (8, 4, 8))))
    x = RNG.normal(size=(tokens, 8)).astype(np.float32)
    experts = np.argsort(RNG.random((tokens, 8)))[:, :2].astype(np.int32)
    experts[5:25] = (6, 7)  # a crowd on one device, and both experts of a token there
    weights = RNG.random((tokens, 2)).astype(np.float32)
    expected = weighted_sum(x, experts, weights, bank, "silu")
    wrong = []
    for name, homes, capacity in (
        ("best", experts[:, 0] // 2, None),
        ("random", RNG.integers(0, 4, tokens), 1),
        ("all on one", np.zeros(tokens), 3),
    ):
        order = by_device(jnp.asarray(homes, jnp.int32), 4)
        seats = np.asarray(order)
        if sorted(seats[seats < tokens]) != list(range(tokens)) or len(seats) != 4 * share:
            wrong.append(f"{name}: {seats}")
        body = functools.partial(dispatch, activation="silu", capacity=capacity)
        mesh = Mesh(np.asarray(jax.devices()[:4]), (AXIS,))
        mapped = jax.jit(
            jax.shard_map(body, mesh=mesh, in_specs=P(AXIS), out_specs=P(AXIS), check_vma=False)
        )
        at = np.minimum(seats, tokens - 1)
        got = np.zeros_like(x)
        got[at] = mapped(x[at], experts[at], weights[at], bank)
        wrong += [f"{name}: {error}" for error in far(got, expected, 1e-4)]
    return wrong


def decodes_alike(form, **axes):
    """A whole speculative loop with a tree on a mesh of rows and experts: the tokens of one device."""
    config = CONFIG
    if form == "speculative":
        mixture = dataclasses.replace(CONFIG.mixture, shared_hidden=0)
        config = dataclasses.replace(CONFIG, mixture=mixture, output_bias=True)
    model, params = from_nnx(Transformer(config, rngs=nnx.Rngs(0)))
    # Large weights, so that laws are far from ties, and biases.
    noise = lambda x: 0.3 * RNG.normal(size=x.shape).astype(np.float32)
    params = {"target": jax.tree.map(lambda x: 3 * x + noise(x), params)}
    drafter = jaxdec.drafters.lookup_tree(nodes=4, max_ngram=2)
    decoder = jaxdec.speculative(model, drafter=drafter)
    prompt = np.random.default_rng(2).integers(0, 11, (4, 6))
    settings = {"max_new_tokens": 8, "temperature": 0.8, "rng": 3}
    place = parallel.placement(**(axes or {"data": 2, "model": 4}))
    with use_experts(form):
        got = jaxdec.generate(decoder, params, prompt, placement=place, **settings)
    expected = jaxdec.generate(decoder, params, prompt, **settings)
    return [] if np.array_equal(got.tokens, expected.tokens) else [str((got, expected))]


def a_trained_mixture_is_placed():
    """Experts where their neighbours are, tokens sent by guesses: the text of the network as it was, on one device."""
    loaded = jaxdec.load("code-mixture")
    config = dataclasses.replace(loaded.config, kv_heads=2)
    model, _ = from_nnx(nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0))))
    # Its one head of keys twice, so that there is one for each device.
    twice = lambda path, x: jnp.tile(x, 2) if re.search("[kv]_proj", str(path)) else x
    params = {"target": jax.tree_util.tree_map_with_path(twice, loaded.params)}
    decoder = jaxdec.autoregressive(model)
    prompt = text.to_ids(b"def main(arguments):\n    return ")[None].repeat(2, 0)
    settings = {"max_new_tokens": 24, "rng": 0, "eos": []}
    expected = jaxdec.generate(decoder, params, prompt, **settings).tokens
    with recorded() as found:
        model(params["target"], Inputs.causal(expected), None)
    counts = parallel.expert_affinity(np.stack([r.experts for r in found]), 8)
    order = parallel.expert_order(parallel.place_experts(counts, 2, "exchange").devices)
    moved = parallel.permute_experts(params, order)
    with use_experts("speculative"):
        place = parallel.placement(data=2, model=2)
        got = jaxdec.generate(decoder, moved, prompt, placement=place, **settings).tokens
    still = np.array_equal(order, np.tile(np.arange(8), (4, 1)))
    return [] if np.array_equal(got, expected) and not still else [str((got, expected, order))]


# Of the number of rounds; tokens, their choices and the sums; the shared unit; the residual.
DISPATCHED = ["all-reduce", *["all-to-all"] * 3, "reduce-scatter", "all-gather"]
CASES = {
    "replicated, many": (equals_one_device, "replicated", 16),
    "replicated, few, none shared": (
        functools.partial(equals_one_device, experts=16, shared_hidden=0), "replicated", 1,
    ),
    "replicated, shared whole": (
        functools.partial(equals_one_device, shared_hidden=6), "replicated", 3,
    ),
    "replicated, bfloat16": (equals_one_device, "replicated", 5, jnp.bfloat16),
    "replicated, experts that do not divide": (
        functools.partial(equals_one_device, experts=6), "replicated", 5,
    ),
    "dispatch": (equals_one_device, "dispatch", 16),
    "dispatch, a number that does not divide": (equals_one_device, "dispatch", 5),
    "dispatch, bfloat16": (equals_one_device, "dispatch", 5, jnp.bfloat16),
    "replicated, rows": (rows_are_independent, "replicated"),
    "dispatch, rows": (rows_are_independent, "dispatch"),
    "any capacity and home": (any_capacity_and_home,),
    "one all-reduce": (collectives, "replicated", ["all-reduce"]),
    "all-to-alls": (collectives, "dispatch", DISPATCHED),
    "decodes alike, replicated": (decodes_alike, "replicated"),
    "decodes alike, dispatch": (decodes_alike, "dispatch"),
    "decodes alike, speculative": (decodes_alike, "speculative"),
    "a trained mixture is placed": (a_trained_mixture_is_placed,),
    "decodes alike, three axes": (
        functools.partial(decodes_alike, data=2, sequence=2, model=2), "replicated",
    ),
}  # fmt: skip


if __name__ == "__main__":
    virtual.report(CASES)
