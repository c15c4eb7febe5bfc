"""One of two processes that decode on one mesh over the devices of both; prints what differs from one device as JSON.

python -m tests.parallel.hosts_cases 0 PORT & python -m tests.parallel.hosts_cases 1 PORT
"""

import functools
import json
import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
# Unoptimised code: the cases compile many small programs and run each once.
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4 "
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)

import jax
import numpy as np
from flax import nnx

import jaxdec
from jaxdec import decoding, diffusion, parallel
from jaxdec.model import from_nnx
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.testing.oracles import blend, canvas, hash_oracle

PROCESSES, DEVICES = 2, 4
"""Processes, and devices of each."""

if __name__ == "__main__":  # before the first array
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        f"127.0.0.1:{sys.argv[2]}", PROCESSES, int(sys.argv[1]), initialization_timeout=120
    )

VOCAB = 12
MODEL, TABLE = hash_oracle(VOCAB, seed=1, eos=(3,))
_, OTHER = hash_oracle(VOCAB, seed=2)
TABLES = {"target": TABLE, "draft": blend(TABLE, OTHER, 0.3)}
CONFIG = TransformerConfig(
    vocab_size=VOCAB, width=16, layers=2, heads=4, kv_heads=2, head_dim=8, hidden=16
)
DECODERS = {
    "autoregressive": jaxdec.autoregressive(MODEL),
    "a draft model": jaxdec.speculative(MODEL, drafter=jaxdec.drafters.model(MODEL, length=3)),
    "a canvas": jaxdec.denoise(
        canvas(MODEL),
        unmask=diffusion.unmask.threshold(0.5),
        schedule=diffusion.schedules.blocks(4),
        refresh=diffusion.refresh.dual(),
    ),
}
RNG = jax.random.key(7, impl="threefry2x32")


def asked(batch):
    """The arguments of `generate` for ragged rows, each with settings of its own."""
    rows = np.arange(batch)
    return {
        "prompt": np.random.default_rng(0).integers(0, VOCAB, (batch, 6)),
        "lengths": 1 + rows * 5 % 6,
        "max_new_tokens": 3 + rows * 7 % 12,
        "temperature": np.where(rows % 3, 0.9, 0.0),
        "rng": RNG,
    }


def unequal(expected, result, divides=True):
    """What differs between a result of one device and one of the mesh, whole and as each process has its own rows."""
    whole = parallel.gather(result)
    wrong = [
        name
        for name in ("tokens", "lengths", "codes", "steps", "drafted")
        if not np.array_equal(getattr(expected, name), getattr(whole, name))
    ]
    if whole.status != expected.status:
        wrong.append("status")
    if np.abs(np.asarray(expected.log_probs) - whole.log_probs).max() > 1e-5:
        wrong.append("log_probs")
    rows, own = parallel.own_rows(result)
    share = PROCESSES if divides else 1  # rows that do not divide lie whole in each process
    if len(rows) * share != len(whole.tokens):
        wrong.append(f"own rows {rows.tolist()}")
    if not np.array_equal(own.tokens, whole.tokens[rows]):
        wrong.append("tokens of own rows")
    return wrong


def rows_over_hosts(name, batch):
    place = parallel.placement(data=-1)
    decode = functools.partial(jaxdec.generate, DECODERS[name], TABLES, **asked(batch))
    return unequal(decode(), decode(placement=place), divides=batch % len(jax.devices()) == 0)


def heads_over(devices, divides=True):
    """Rows over two groups of four devices, and heads over each pair of them."""
    model, params = from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(0)))
    params = {"target": jax.tree.map(lambda x: 4 * x, params)}
    place = parallel.placement(data=4, model=2, devices=devices)
    decode = functools.partial(jaxdec.generate, jaxdec.autoregressive(model), **asked(8))
    return unequal(decode(params), decode(place.place(params), placement=place), divides)


def heads_in_a_host():
    return heads_over(jax.devices())


def heads_across_hosts():
    first, second = np.asarray(jax.devices()).reshape(PROCESSES, DEVICES)
    pairs = list(np.stack([first, second], axis=1).flat)
    assert {d.process_index for d in pairs[:2]} == {0, 1}
    return heads_over(pairs, divides=False)


def continued():
    """A run that is left and continued, and a stream, on arrays of which no process has all."""
    decoder, place = DECODERS["a draft model"], parallel.placement(data=-1)
    given = asked(8)
    expected = jaxdec.generate(decoder, TABLES, **given)
    rng = given.pop("rng")
    request = jaxdec.prepare(decoder, TABLES, **given)
    state = decoding.init(decoder, TABLES, request, placement=place)
    state, record = decoding.run(decoder, TABLES, state, rng, 2, placement=place)
    state, record = decoding.run(decoder, TABLES, state, rng, None, record, placement=place)
    wrong = unequal(expected, jaxdec.generation.result(state, record))
    state = decoding.init(decoder, TABLES, request, placement=place)
    last = [s for s, _ in decoding.stream(decoder, TABLES, state, rng, placement=place)][-1]
    streamed = parallel.gather(last.rows.tokens)
    return wrong if np.array_equal(streamed, expected.tokens) else [*wrong, "streamed"]


def a_mesh_without_this_process():
    place = parallel.placement(data=4)
    first = jax.process_index() == 0
    try:
        jaxdec.generate(DECODERS["autoregressive"], TABLES, **asked(8), placement=place)
    except ValueError as error:
        said = "process 1 of 2 has none of the 4 devices"
        return [] if not first and said in str(error) else [str(error)]
    return [] if first else ["nothing was raised"]


CASES = {
    **{f"{name}; 8 rows": (rows_over_hosts, name, 8) for name in DECODERS},
    "autoregressive; 5 rows": (rows_over_hosts, "autoregressive", 5),
    "heads in a host": (heads_in_a_host,),
    "heads across hosts": (heads_across_hosts,),
    "continued": (continued,),
    "a mesh without this process": (a_mesh_without_this_process,),
}


def main():
    report = {"devices": [len(jax.devices()), len(jax.local_devices())]}
    for name, (function, *arguments) in CASES.items():
        try:
            report[name] = function(*arguments)
        except Exception as error:
            report[name] = [f"{type(error).__name__}: {error}"]
    print(json.dumps(report), flush=True)
    jax.distributed.shutdown()


if __name__ == "__main__":
    main()
