"""Everything runs where JAX has 64-bit types, on the same types and with the same tokens."""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec import any_subset, catalogue, decoding, diffusion, text
from jaxdec.generation import prepare_infill, result
from jaxdec.model import from_nnx
from jaxdec.models import (
    DFlash,
    DFlashConfig,
    Eagle3,
    Eagle3Config,
    HeadsConfig,
    Transformer,
    TransformerConfig,
    build_heads,
)
from jaxdec.testing import oracles
from jaxdec.testing.battery.cases import Letters
from jaxdec.testing.heads import position_head
from jaxdec.text import Automaton

V, WIDTH = 8, 8
CONFIG = TransformerConfig(
    vocab_size=V, width=WIDTH, layers=1, heads=2, kv_heads=1, head_dim=4, hidden=8
)
PROMPT = np.array([[1, 2, 3, 1, 2, 3, 1, 2], [4, 5, 4, 5, 4, 5, 0, 0]])
LENGTHS = np.array([8, 6])
VISIBLE = np.arange(24).reshape(2, 12) % 3 < 1
EVERYTHING = dict(
    temperature=0.8, top_k=6, top_p=0.9, min_p=0.01, typical=0.95, epsilon=0.01, top_h=0.9,
    repetition_penalty=1.1, presence_penalty=0.1, frequency_penalty=0.1, eos=[7], stop=[[6, 6]],
    stop_strings=["abba", "bb"], tokenizer=Letters(),
    logit_bias=np.zeros(V), banned=np.arange(V) == 0,
    min_new_tokens=3, forced_prefix=[2, -1, 4], top_log_probs=2,
)  # fmt: skip
EVEN_OR_ODD = Automaton.explore(0, lambda state, token: 1 - state, lambda state: True, V)
READ_LEFT = dict(no_repeat_ngram=3, bad_words=[[1, 2], [5]], constraint=EVEN_OR_ODD)


@functools.cache
def target():
    return from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(0)))


@functools.cache
def draft(kind):
    """A draft model or heads, by the name of the checkpoint that drafts in practice, and parameters."""
    for heads in ("medusa", "hydra", "eagle"):
        if kind == f"code-{heads}":
            return build_heads(heads, CONFIG if heads == "eagle" else HeadsConfig(V, WIDTH, 3))
    if kind.startswith("tasks-"):
        return position_head(kind.removeprefix("tasks-"))
    model, params = target()
    sizes = dataclasses.asdict(CONFIG)
    if kind == "eagle3":
        config = Eagle3Config(**{**sizes, "layers": 1}, taps=(0, 1), draft_vocab_size=4)
        return from_nnx(Eagle3(config, rngs=nnx.Rngs(0)))
    if kind == "dflash":
        config = DFlashConfig(**sizes, taps=(0, 1))
        filler, params = from_nnx(DFlash(config, rngs=nnx.Rngs(0)))
        return diffusion.canvas_model(filler, V - 1), params
    if "infill" in kind:
        return any_subset.two_stream(model, V - 1), params
    return diffusion.canvas_model(model, V - 1) if "block" in kind else model, params


def case(name):
    """The decoder of a method of the catalogue, its parameters and a request."""
    name, _, refresh = name.partition(" ")
    method = catalogue.METHODS[name]
    model, params = target()
    if method.infills:
        model = any_subset.two_stream(model, V - 1)
    if method.denoises:
        model = diffusion.canvas_model(model, V - 1)
    params = {"target": params}
    drafter = None
    if method.draft or method.heads:
        drafter, params["draft"] = draft(method.draft or method.heads)
    if method.weights is not None:
        checkpoint = types.SimpleNamespace(
            name="code-target", params=params["target"], tokenizer=text.BYTES
        )
        params |= method.weights(checkpoint)
    if "judge" in params:  # as wide as this target
        params["judge"] = {"kernel": jnp.ones(WIDTH), "bias": jnp.zeros(())}
    # `diffuspec` drafts with a block of its model.
    canvas = dict(refresh=refresh, causal=refresh in ("block", "sub-block")) if refresh else {}
    block = 8 if refresh or method.draft == "code-block" else None
    decoder = method.make(catalogue.Parts(model, drafter, length=3, block=block, **canvas))
    other = method.infills or method.denoises
    knobs = {**EVERYTHING, **({"eos": [5]} if other else READ_LEFT)}
    if method.infills:
        request = prepare_infill(decoder, params, np.ones((2, 12), int), VISIBLE, **knobs)
    else:
        if method.searches:
            knobs["hypotheses"] = 4
        request = jaxdec.prepare(
            decoder, params, PROMPT, lengths=LENGTHS, max_new_tokens=16, **knobs
        )
    return decoder, params, request


def decode(decoder, params, request, rng):
    state = decoding.init(decoder, params, request)
    state, record = decoding.run(decoder, params, state, rng)
    return state, result(state, record)


def types_of(name):
    decoder, params, request = case(name)
    shapes = jax.eval_shape(functools.partial(decode, decoder), params, request, jax.random.key(0))
    return jax.tree.map(lambda x: (x.shape, x.dtype), shapes)


CANVASES = [f"threshold {refresh}" for refresh in catalogue.REFRESH_RULES if refresh != "none"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*catalogue.METHODS, *CANVASES])
def test_states_have_the_same_types(name):
    """Traced but not run: a loop whose carry changes its type cannot be."""
    expected = types_of(name)
    with jax.enable_x64(True):
        found = types_of(name)
    assert found == expected


SLOW = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("dynamic-tree-recursive", "assd-adaptive")
]
RUN = ("autoregressive", "draft-token", "threshold dual", *SLOW)


@pytest.mark.parametrize("name", RUN)
def test_tokens_are_the_same(name, quick_compilation):
    expected = decode(*case(name), jax.random.key(0))[1]
    with jax.enable_x64(True):
        found = decode(*case(name), jax.random.key(0))[1]
        np.testing.assert_array_equal(found.tokens, expected.tokens)
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("visible_traced", [False, True])
def test_a_call_has_no_types_of_its_own(visible_traced, quick_compilation):
    """`generate` and `infill` with everything that a user may give as 64-bit integers and floats."""
    model, params = oracles.hash_oracle(V)
    decoder = jaxdec.autoregressive(model)

    def call():
        drawn = jaxdec.generate(
            decoder,
            {"target": jnp.asarray(params)},
            jnp.asarray(PROMPT),
            rng=jnp.asarray([3, 4]),
            min_new_tokens=jnp.asarray([2, 3]),
            eos=[7],
            no_repeat_ngram=jnp.asarray(np.array([2, 0])),
            bad_words=jnp.asarray([[1, 2]]),
            forced_prefix=jnp.asarray([[1, -1], [2, 3]]),
            top_log_probs=2,
            lengths=jnp.asarray(LENGTHS),
            max_new_tokens=jnp.asarray([5, 9]),
            temperature=jnp.asarray(np.array([0.7, 0.0])),
            top_k=jnp.asarray(np.array([5, 3])),
            hypotheses=2,
        )
        fill = lambda visible: jaxdec.infill(
            decoder, {"target": params}, jnp.ones((2, 12), int), visible, rng=3, sizes=[12, 9]
        )
        return drawn, (jax.jit(fill) if visible_traced else fill)(jnp.asarray(VISIBLE))

    expected = call()
    with jax.enable_x64(True):
        found = call()
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, atol=1e-5)
