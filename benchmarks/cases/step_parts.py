"""Where the time of a plain decoding step goes: the step, its forward, and the products with the weights alone."""

import dataclasses
import sys
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxdec
from benchmarks import costs, packages, progress
from benchmarks.case import CAUSAL, Case
from benchmarks.cases.peers import SHAPES
from benchmarks.columns import Row, number, spread, word
from benchmarks.setting import Setting
from benchmarks.variants import plain
from benchmarks.workload import Prompts, Workload, nbytes
from jaxdec.decoding import init
from jaxdec.measuring.timing import Method, interleave, quartiles
from jaxdec.model import Inputs, Model, Params, from_nnx
from jaxdec.models import Transformer

PROMPT = 64
Kernels = list[dict[str, tuple[jax.Array, ...]]]
"""Of each layer: `qkv`, `o`, `up` (with the gate, where there is one) and `down`, in one or several pieces each."""


def run(setting: Setting) -> list[Row]:
    """One row a model and part."""
    rows = []
    for name, model, params in models(setting):
        rows += parts(setting, name, model, params)
    return rows


def models(setting: Setting) -> Iterator[tuple[str, Model, Params]]:
    """The shipped target, IgLM where it was fetched, and random models."""
    yield setting.target.name, setting.target.model, setting.target.params
    try:
        held = jaxdec.load(packages.path("iglm"))
        yield "IgLM", held.model, held.params
    except ValueError as error:
        print(f"left out: {error}", file=sys.stderr)
    for shape in setting.scale.shapes:
        yield shape, *from_nnx(Transformer(SHAPES[shape], rngs=nnx.Rngs(0)))


def parts(setting: Setting, name: str, model: Model, params: Params) -> list[Row]:
    """The rows of a model, all parts in turns."""
    scale = setting.scale
    prompt = np.random.default_rng(0).integers(3, model.vocab_size, (1, PROMPT), np.int32)
    variant = plain(model, params)
    workload = Workload(Prompts(prompt, np.array([PROMPT])), 1, scale.steps, 0.0)
    state = init(variant.decoder, variant.params, workload.requests(variant)[0])
    held = kernels(params)
    methods = [
        dataclasses.replace(workload.method(variant), name="plain step"),
        costs.forward_method("bare forward", model, params, state.cache, 1, scale.steps),
        alone(model, params, scale.steps),
        products("products", apart(held), scale.steps),
        products("products, q k v in one", held, scale.steps),
        products("products, each in two halves", halved(held), scale.steps),
    ]
    with progress.steps(len(methods) * (scale.peers + 1)) as shown:
        timings = interleave(
            methods, repeats=scale.peers, report=lambda part: shown.begin(f"{name}: {part}")
        )
    read = nbytes(params)
    rows = []
    for method in methods:
        timing = timings[method.name]
        rows.append(
            {
                "weights": name,
                "parameters": sum(x.size for x in jax.tree.leaves(params)),
                "part": method.name,
                "steps": scale.steps,
                "repeats": scale.peers,
                "step_seconds": timing.median / scale.steps,
                "step_seconds_quartiles": tuple(
                    seconds / scale.steps for seconds in quartiles(timing.seconds)
                ),
                "step_share": timing.median / timings["plain step"].median,
                "bytes_per_second": read * scale.steps / timing.median,
            }
        )
    return rows


def alone(model: Model, params: Params, steps: int) -> Method:
    """Forwards of one token with no cache: the bare forward but for the attention to what is cached."""

    @jax.jit
    def forwards(params, tokens, count):
        def body(step, tokens):
            inputs = Inputs.causal(tokens, jnp.int32([PROMPT]) + step % 4)
            return jnp.argmax(model(params, inputs, None).logits, -1).astype(jnp.int32)

        return jax.lax.fori_loop(0, count, body, tokens)

    tokens = jnp.zeros((1, 1), jnp.int32)
    return Method("forward without a cache", lambda _: forwards(params, tokens, jnp.int32(steps)))


def kernels(params: Params) -> Kernels:
    """What a layer multiplies with, q, k and v side by side, and so gate and up."""
    layers, found = params["layers"], []
    for i in sorted(layers, key=int):
        attention, unit = layers[i]["self_attn"], layers[i]["mlp"]
        of = lambda held, *names: jnp.concatenate(
            [held[name]["kernel"] for name in names if name in held], axis=1
        )
        found.append(
            {
                "qkv": (of(attention, "q_proj", "k_proj", "v_proj"),),
                "o": (of(attention, "o_proj"),),
                "up": (of(unit, "gate_proj", "up_proj"),),
                "down": (of(unit, "down_proj"),),
            }
        )
    return found


def apart(held: Kernels) -> Kernels:
    """Queries, keys and values as kernels of their own, as the network has them; so gate and up."""

    def cut(layer):
        (qkv,), (o,), (up,), (down,) = (layer[name] for name in ("qkv", "o", "up", "down"))
        keys = (qkv.shape[1] - o.shape[0]) // 2
        gated = up.shape[1] > down.shape[0]
        return {
            "qkv": _split(qkv, [o.shape[0], o.shape[0] + keys]),
            "o": (o,),
            "up": _split(up, [down.shape[0]] if gated else []),
            "down": (down,),
        }

    return [cut(layer) for layer in held]


def halved(held: Kernels) -> Kernels:
    """Each kernel as two of half the columns: products that two threads can do at once."""
    halves = lambda kernel: _split(kernel, [kernel.shape[1] // 2])
    return [{name: halves(kernel) for name, (kernel,) in layer.items()} for layer in held]


def _split(kernel: jax.Array, at: list[int]) -> tuple[jax.Array, ...]:
    return tuple(jnp.array(piece) for piece in jnp.split(kernel, at, axis=1))


def products(name: str, held: Kernels, steps: int) -> Method:
    """Products of one row with all kernels of the layers, one after another, and next to nothing else."""
    mixed, width = held[0]["o"][0].shape[0], held[0]["qkv"][0].shape[0]

    def times(x, pieces):
        return jnp.concatenate([x @ piece for piece in pieces], axis=1)

    def fit(x, size):  # what a product makes, as what the next one takes
        return jnp.tanh(x[:, :size])

    @jax.jit
    def loop(x, held, count):
        def body(_, x):
            for layer in held:
                x = x + fit(times(fit(times(x, layer["qkv"]), mixed), layer["o"]), width)
                hidden = layer["down"][0].shape[0]
                x = x + fit(times(fit(times(x, layer["up"]), hidden), layer["down"]), width)
            return fit(x, width)

        return jax.lax.fori_loop(0, count, body, x)

    x = jnp.ones((1, width), held[0]["o"][0].dtype)
    return Method(name, lambda _: loop(x, held, jnp.int32(steps)))


def share(row: Row) -> str:
    """Of the plain step."""
    return f"{row['step_share']:.0%}"


CASE = Case(
    name="step_parts",
    order=23,
    about=(
        "Where a plain decoding step at batch 1 spends its time: the step, a bare forward with the same cache, one "
        "without a cache, and the products with the weights of all layers alone, laid out in three ways."
    ),
    models=CAUSAL,
    columns=(
        ("weights", word("weights")),
        ("parameters", number("parameters", ".1f", 1e-6)),
        ("part", word("part")),
        ("ms a step", spread("step_seconds", ".3f", 1e3)),
        ("of the step", share),
        ("GB/s of weights", number("bytes_per_second", ".1f", 1e-9)),
    ),
    legend=(
        "*products*: one row times every kernel of the layers, as the network has them; *q k v in one*: side by side "
        "in one kernel, and so gate and up; *in two halves*: each of these as two products that do not depend on one "
        "another. Embeddings and head are no part of them."
    ),
    labels=("weights", "part"),
    run=run,
)
