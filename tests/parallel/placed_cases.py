"""Compares decoding on a mesh of eight CPU devices with decoding on one; prints the differences of each case as JSON.

A process of its own: see `tests.parallel.virtual`.
"""

from tests.parallel import virtual  # isort: skip

import dataclasses
import re

import jax
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jaxdec
from jaxdec import any_subset, decoding, diffusion, parallel
from jaxdec.decoding import loop, placed
from jaxdec.model import Inputs
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.speculative import growth
from jaxdec.testing.battery.cases import NO_TOKEN_TWICE, Letters
from jaxdec.testing.oracles import blend, canvas, hash_oracle
from pallas_kernels import top_k
from tests.decoding.moving import Resampled

VOCAB = 11
TARGET, TARGET_PARAMS = hash_oracle(VOCAB, seed=1, eos=(3,))
DRAFT, DRAFT_PARAMS = hash_oracle(VOCAB, seed=2)
PARAMS = {"target": TARGET_PARAMS, "draft": blend(TARGET_PARAMS, DRAFT_PARAMS, 0.3)}
RNG = jax.random.key(7)

DRAFTERS = {
    "model": jaxdec.drafters.model(DRAFT, length=3),
    "prompt lookup": jaxdec.drafters.prompt_lookup(length=3, max_ngram=2),
}
VERIFIERS = {
    "walk": jaxdec.verifiers.SharedNoiseWalk(),
    "token ratio": jaxdec.verifiers.TokenRatio(),
    "block": jaxdec.verifiers.BlockVerification(),
}
DECODERS = {
    "autoregressive": jaxdec.autoregressive(TARGET),
    "denoise": jaxdec.denoise(
        canvas(TARGET),
        unmask=diffusion.unmask.threshold(0.5),
        schedule=diffusion.schedules.blocks(4),
        refresh=diffusion.refresh.dual(),
    ),
} | {
    f"{drafter}, {verifier}": jaxdec.speculative(
        TARGET, drafter=DRAFTERS[drafter], verifier=VERIFIERS[verifier]
    )
    for drafter in DRAFTERS
    for verifier in VERIFIERS
}


def mesh(devices):
    return parallel.placement(data=devices)


def request(batch):
    """Ragged rows, each with settings of its own, a penalty and a stop sequence."""
    rows = np.arange(batch)
    prompt = np.random.default_rng(0).integers(0, VOCAB, (batch, 6))
    return prompt, {
        "lengths": 1 + rows * 5 % 6,
        "max_new_tokens": 3 + rows * 7 % 20,
        "temperature": np.where(rows % 3, 0.9, 0.0),
        "top_p": 0.5 + 0.5 / (1 + rows),
        "repetition_penalty": 1 + rows / 10,
        "stop": [[5, 1], [2]],
        "stop_strings": [["aba"], ["bb", "aab"], [], ["abab"]] * (batch // 4)
        + [["ba"]] * (batch % 4),
        "tokenizer": Letters(),
    }


def unequal(first, second, rounding=0.0):
    """Names of the leaves of two results that differ: in a bit, or floats by more than `rounding`."""
    names = []
    for field in dataclasses.fields(first):
        pairs = zip(
            jax.tree.leaves(getattr(first, field.name)),
            jax.tree.leaves(getattr(second, field.name)),
            strict=True,
        )
        same = lambda a, b: (
            np.allclose(a, b, rtol=0, atol=rounding)
            if a.dtype == np.float32
            else a.tolist() == b.tolist()
        )
        if not all(np.array_equal(a, b) or same(a, b) for a, b in pairs):
            names.append(field.name)
    return names


def against_one_device(name, batch, devices, rng=RNG):
    prompt, settings = request(batch)
    decoder = DECODERS[name]
    if name != "denoise":
        settings["constraint"] = [NO_TOKEN_TWICE if row % 2 else None for row in range(batch)]
    expected = jaxdec.generate(decoder, PARAMS, prompt, rng=rng, **settings)
    got = jaxdec.generate(decoder, PARAMS, prompt, placement=mesh(devices), rng=rng, **settings)
    assert len(set(expected.lengths.tolist())) > 1, "the rows should not end together"
    return unequal(expected, got)


FORMS = {
    "assd": any_subset.assd(TARGET, width=3),
    "fused": any_subset.fused(TARGET, width=3, nodes=4),
    "adaptive": jaxdec.adaptive(lambda k: any_subset.assd(TARGET, width=k), (2, 3)),
}


def infilling_against_one_device(name, batch, devices):
    generator = np.random.default_rng(1)
    tokens = generator.integers(0, VOCAB, (batch, 12))
    visible = generator.random((batch, 12)) < 0.4
    visible[:, 0], visible[:, 1] = True, False
    knobs = {"rng": RNG, "temperature": 0.9, "sizes": 12 - np.arange(batch)}
    expected = jaxdec.infill(FORMS[name], PARAMS, tokens, visible, **knobs)
    got = jaxdec.infill(FORMS[name], PARAMS, tokens, visible, placement=mesh(devices), **knobs)
    # Laws joined from two forwards are vectorised by the shape of the batch: the last bit may differ.
    return unequal(expected, got, rounding=1e-6)


def hypotheses_against_one_device(batch, devices):
    """Rows that move stay on the device of their prompt."""
    prompt, settings = request(batch)
    settings = {**settings, "hypotheses": 3, "temperature": 0.9}
    decoder = Resampled(DECODERS["model, walk"])
    expected = jaxdec.generate(decoder, PARAMS, prompt, rng=RNG, **settings)
    got = jaxdec.generate(decoder, PARAMS, prompt, placement=mesh(devices), rng=RNG, **settings)
    return unequal(expected, got)


NETWORK = TransformerConfig(
    vocab_size=64, width=32, layers=2, heads=8, kv_heads=4, head_dim=8, hidden=64, tied=False
)


def network(seed):
    """A tiny transformer whose laws are not flat."""
    model, params = jaxdec.from_nnx(Transformer(NETWORK, rngs=nnx.Rngs(seed)))
    return model, jax.tree.map(lambda x: 2 * x, params)


def over_networks():
    """A decoder of each family over transformers, whose weights and heads can be split."""
    (target, params), (draft, draft_params) = network(0), network(1)
    blocks = diffusion.schedules.blocks(4)
    tree = growth.best_first(nodes=6, depth=3)
    return {"target": params, "draft": draft_params}, {
        "plain": jaxdec.autoregressive(target),
        "tree": jaxdec.speculative(target, drafter=jaxdec.drafters.model(draft, growth=tree)),
        "canvas": jaxdec.denoise(
            diffusion.canvas_model(target, 63), schedule=blocks, refresh=diffusion.refresh.dual()
        ),
        "infill": any_subset.assd(any_subset.two_stream(target, 63), width=3),
    }


def network_on_a_mesh(name, data, model, sequence):
    """The same tokens, and laws up to rounding: sums over heads and widths are taken in another order."""
    params, decoders = over_networks()
    place = parallel.placement(data=data, model=model, sequence=sequence)
    knobs = {"rng": RNG, "temperature": np.array([0.0, 0.9, 0.8, 0.0, 1.0])}
    if name == "infill":
        visible = np.random.default_rng(1).random((5, 12)) < 0.4
        visible[:, 0], visible[:, 1] = True, False
        tokens = np.random.default_rng(2).integers(0, 63, (5, 12))
        call = lambda **more: jaxdec.infill(
            decoders[name], params, tokens, visible, **knobs, **more
        )
    else:
        prompt = np.random.default_rng(0).integers(0, 63, (5, 6))
        knobs |= {"lengths": [1, 3, 6, 2, 5], "max_new_tokens": [5, 9, 20, 12, 7], "top_p": 0.9}
        call = lambda **more: jaxdec.generate(decoders[name], params, prompt, **knobs, **more)
    return unequal(call(), call(placement=place), rounding=1e-4)


def roles():
    """Target and draft model at the same time on two groups of devices: what they give one after the other."""
    params, _ = over_networks()
    (target, _), (draft, _) = network(0), network(1)
    place = parallel.placement(role=2, model=4)
    tokens = np.random.default_rng(0).integers(0, 63, (3, 7)).astype(np.int32)

    def both(params, tokens):
        inputs = Inputs.causal(tokens)
        return parallel.together(
            lambda: target(params["target"], inputs).logits,
            lambda: draft(params["draft"], inputs).logits / 0,  # what is not finite stays so
        )

    expected = both(params, tokens)
    mapped = jax.jit(place.map(both, (P(), P("data")), P("data")))
    compiled = mapped.lower(place.place(params), tokens).compile().as_text()
    got = mapped(place.place(params), tokens)
    wrong = [] if "conditional(" in compiled else ["no branches"]
    same = [
        np.allclose(a, b, atol=1e-4, equal_nan=True) for a, b in zip(expected, got, strict=True)
    ]
    return wrong + ([] if all(same) else [str(same)])


def highest_of_a_split_vocabulary():
    """Each device's own highest are sent, and nothing as long as a vocabulary; of equals the first are taken."""
    place = parallel.placement(data=2, model=4)
    values = np.random.default_rng(0).integers(0, 9, (4, 3, 64)).astype(np.float32)
    found = jax.jit(place.map(lambda x: top_k(x, 5), (P("data"),), P("data")))
    laid = jax.device_put(values, NamedSharding(place.mesh, P("data", None, "model")))
    sent = re.findall(r"= \w+\[([\d,]+)\]\S* all-", found.lower(laid).compile().as_text())
    same = map(np.array_equal, found(laid), jax.lax.top_k(values, 5))
    return ([] if all(same) else ["other places"]) + ([] if set(sent) == {"2,3,20"} else sent)


def weights_lie_split():
    """A placement puts a share of each split array on each device, and leaves what lies there."""
    place = parallel.placement(data=2, model=4)
    params = place.place(over_networks()[0])
    again = place.place(params)
    kernel = params["target"]["layers"][0]["mlp"]["up_proj"]["kernel"]
    shape = kernel.sharding.shard_shape(kernel.shape)
    same = all(a is b for a, b in zip(*map(jax.tree.leaves, (params, again)), strict=True))
    return ([] if shape == (32, 16) else [str(shape)]) + ([] if same else ["copied"])


def refusals():
    """What does not divide or fit, with the numbers."""
    params, decoders = over_networks()
    prompt = np.ones((4, 6), np.int32)

    def call(**more):
        return lambda: jaxdec.generate(decoders["plain"], params, prompt, rng=0, **more)

    wanted = {
        "data 3 x model 3 is 9 devices, got 8": lambda: parallel.placement(data=3, model=3),
        "model must be an integer of at least 1, got 0": lambda: parallel.placement(model=0),
        "there are 2 roles, got 4": lambda: parallel.placement(role=4),
        "8 devices do not divide into groups of 3: model 3": lambda: parallel.placement(
            data=-1, model=3
        ),
        "a placement's mesh has axes among": lambda: parallel.Placement(
            jax.make_mesh((8,), ("rows",))
        ),
        "a placement's mesh needs the axis 'data'": lambda: parallel.Placement(
            jax.make_mesh((8,), ("model",))
        ),
        "key-value heads: 4 do not divide over 8 devices of the axis 'model'": call(
            placement=parallel.placement(model=8)
        ),
        "placement must be a jaxdec.parallel.Placement, got Mesh": call(
            placement=jax.make_mesh((8,), ("data",))
        ),
        "parameters of 58,624 and caches of 47,048 bytes a device": call(
            placement=parallel.placement(data=2, model=4, memory=30_000)
        ),
    }
    found = {start: raised(function) for start, function in wanted.items()}
    return [text for start, text in found.items() if not text.startswith(start)]


def chunked_is_whole():
    prompt, settings = request(8)
    decoder = DECODERS["model, walk"]
    expected = jaxdec.generate(decoder, PARAMS, prompt, rng=RNG, **settings)
    asked = jaxdec.prepare(decoder, PARAMS, prompt, **settings)
    state = decoding.init(decoder, PARAMS, asked, placement=mesh(8))
    record, chunks = None, 0
    while bool(state.rows.running.any()):
        state, record = decoding.run(
            decoder, PARAMS, state, RNG, max_steps=2, record=record, placement=mesh(8)
        )
        chunks += 1
    assert chunks > 1
    return unequal(expected, jaxdec.generation.result(state, record))


def rows_lie_on_their_devices():
    prompt, settings = request(8)
    decoder = DECODERS["model, walk"]
    asked = jaxdec.prepare(decoder, PARAMS, prompt, **settings)
    state = decoding.init(decoder, PARAMS, asked, placement=mesh(8))
    wrong = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        name = jax.tree_util.keystr(path)
        rows = leaf.shape[0] if ".stops" in name else 1
        if leaf.sharding.shard_shape(leaf.shape)[:1] != (rows,) or len(leaf.devices()) != 8:
            wrong.append(name)
    return wrong


def state_is_donated():
    prompt, settings = request(8)
    decoder = DECODERS["model, walk"]
    asked = jaxdec.prepare(decoder, PARAMS, prompt, **settings)
    state = decoding.init(decoder, PARAMS, asked, placement=mesh(8))
    decoding.run(decoder, PARAMS, state, RNG, placement=mesh(8))
    kept = [] if state.cache.read(0).keys.is_deleted() else ["cache"]
    return kept + [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(asked)
        if isinstance(leaf, jax.Array) and leaf.is_deleted()
    ]


def knobs_compile_nothing():
    decoder = DECODERS["autoregressive"]
    prompt, settings = request(8)
    call = lambda **changed: jaxdec.generate(
        decoder, PARAMS, prompt, placement=mesh(8), rng=RNG, **(settings | changed)
    )
    call()
    before = loop._run_placed._cache_size(), placed._init._cache_size()
    call(temperature=0.3, max_new_tokens=9)
    call(top_p=1.0, lengths=np.full(8, 2), stop=[[1, 4], [6]])
    after = loop._run_placed._cache_size(), placed._init._cache_size()
    return [] if before == after else [f"programs: {before} -> {after}"]


def raised(function):
    try:
        function()
    except ValueError as error:
        return str(error)
    return "nothing was raised"


def rows_that_do_not_divide():
    prompt, settings = request(3)
    decoder = DECODERS["autoregressive"]
    asked = jaxdec.prepare(decoder, PARAMS, prompt, **settings)
    state = decoding.init(decoder, PARAMS, asked)
    for text in (
        raised(lambda: decoding.init(decoder, PARAMS, asked, placement=mesh(2))),
        raised(lambda: decoding.run(decoder, PARAMS, state, RNG, placement=mesh(2))),
    ):
        if not text.startswith("3 rows do not divide over 2 devices"):
            return [text]
    return []


def leaf_without_rows():
    prompt, settings = request(2)
    decoder = DECODERS["autoregressive"]
    state = decoding.init(decoder, PARAMS, jaxdec.prepare(decoder, PARAMS, prompt, **settings))
    state = dataclasses.replace(state, cache={"table": jax.numpy.zeros((5, 2))})
    text = raised(lambda: decoding.run(decoder, PARAMS, state, RNG, placement=mesh(2)))
    return [] if text.startswith(".cache['table'] has shape [5, 2]") else [text]


SPLITS = [
    ("plain", 1, 4, 1),
    ("plain", 2, 2, 2),
    ("tree", 2, 2, 2),
    ("canvas", 2, 2, 2),
    ("infill", 2, 2, 2),
]
CASES = (
    {f"{name}; 8 rows, 8 devices": (against_one_device, name, 8, 8) for name in DECODERS}
    | {f"model, walk; 8 rows, {n} devices": (against_one_device, "model, walk", 8, n) for n in (1, 2)}
    | {
        "autoregressive; 5 rows, 8 devices": (against_one_device, "autoregressive", 5, 8),
        "model, block; 7 rows, 2 devices": (against_one_device, "model, block", 7, 2),
        "autoregressive; keys of the caller": (
            *(against_one_device, "autoregressive", 8, 8),
            jax.random.split(RNG, 8),
        ),
        **{f"{name}; 5 rows, 4 devices": (infilling_against_one_device, name, 5, 4) for name in FORMS},
        "hypotheses; 3 prompts, 2 devices": (hypotheses_against_one_device, 3, 2),
        **{
            f"{name}; data {data}, model {model}, sequence {sequence}": (
                *(network_on_a_mesh, name, data, model, sequence),
            )
            for name, data, model, sequence in SPLITS
        },
        "roles": (roles,),
        "highest of a split vocabulary": (highest_of_a_split_vocabulary,),
        "weights lie split": (weights_lie_split,),
        "refusals": (refusals,),
        "chunked is whole": (chunked_is_whole,),
        "rows lie on their devices": (rows_lie_on_their_devices,),
        "state is donated": (state_is_donated,),
        "knobs compile nothing": (knobs_compile_nothing,),
        "rows that do not divide": (rows_that_do_not_divide,),
        "leaf without rows": (leaf_without_rows,),
    }
)  # fmt: skip


if __name__ == "__main__":
    virtual.report(CASES)
