"""Columns of keys that all heads share, against the same columns copied to every head."""

import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pallas_kernels
from pallas_kernels.span_attention import Keys, span_attention
from pallas_kernels.span_attention.cases import Case
from tests.kernels.interpreting import checked

pytestmark = pytest.mark.usefixtures("quick_compilation")

CASE, EXTRA = Case("shared columns", 2, 4, 2, 11, 150, 16), 40


def arguments(case=CASE, unseen=0.0):
    """Those of a case, with shared columns; what nobody sees holds `unseen`."""
    given, random = case.arguments(unseen=unseen), np.random.default_rng(2)
    normal = lambda *shape: jnp.asarray(random.standard_normal(shape), jnp.float32)
    queries = given["queries"]
    given["shared_queries"] = normal(*queries.shape[:3], EXTRA)

    def wider(part: Keys) -> Keys:
        columns = normal(queries.shape[0], part.keys.shape[2], EXTRA)
        nobody = (part.key_spans[..., 1] < part.key_spans[..., 0])[..., None]
        return part._replace(shared_keys=jnp.where(nobody, unseen, columns))

    given["parts"] = tuple(map(wider, given["parts"]))
    return given


def run(given, **how):
    call = lambda given: span_attention(
        given["queries"],
        given["query_spans"],
        *given["parts"],
        shared_queries=given["shared_queries"],
        scale=0.2,
        **how,
    )
    return jax.jit(call)(given)


@jax.jit
def copied(given):
    """The same attention with the columns of each head beside its own; values are padded to their width."""
    join = lambda x, more: jnp.concatenate([x, more], axis=-1)

    def wide(part):
        heads = (*part.keys.shape[:3], EXTRA)
        columns = jnp.broadcast_to(part.shared_keys[:, None], heads)
        values = join(part.values, jnp.zeros(heads))
        return part._replace(keys=join(part.keys, columns), values=values, shared_keys=None)

    queries = join(given["queries"], given["shared_queries"])
    out, log_sum = span_attention(
        queries, given["query_spans"], *map(wide, given["parts"]), scale=0.2
    )
    return out[..., : given["queries"].shape[-1]], log_sum


@pytest.mark.parametrize("name", ["reference", "tpu"])
def test_shared_columns_are_those_of_every_head(name):
    """Ragged rows, one with an empty cache; NaN where nobody looks."""
    want = copied(arguments())
    with checked() if name == "tpu" else contextlib.nullcontext():
        got = jax.block_until_ready(run(arguments(unseen=np.nan), implementation=name))
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, atol=5e-6, rtol=5e-6)


def test_low_precision_leaves_shared_columns_alone():
    """They are float32 beside keys of bfloat16: constant keys leave the softmax to them."""
    given = arguments(dataclasses.replace(CASE, slots=0))
    flat = [part._replace(keys=jnp.zeros_like(part.keys)) for part in given["parts"]]
    short = lambda x: x.astype(jnp.bfloat16)
    low = [p._replace(keys=short(p.keys), values=short(p.values)) for p in flat]
    _, want = run({**given, "parts": flat})
    _, got = run({**given, "queries": short(given["queries"]), "parts": low})
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_what_does_not_fit_is_refused():
    given = arguments()
    cached, new = given["parts"]
    queries, spans, shared = given["queries"], given["query_spans"], given["shared_queries"]
    call = lambda *parts, shared=shared, **how: span_attention(
        queries, spans, *parts, shared_queries=shared, **how
    )
    refused = {
        "need shared_queries, got None": lambda: call(cached, new, shared=None),
        "shared_queries must be": lambda: call(new, shared=shared[:, :2]),
        "part 1: shared_keys must be": lambda: call(cached, new._replace(shared_keys=None)),
        "part 0: shared_keys must be": lambda: call(new, shared=shared[..., 1:]),
        f"GPU takes no shared columns, got {EXTRA}": lambda: call(new, implementation="gpu"),
        "1024 shared columns at most, got 1025": lambda: call(
            new._replace(shared_keys=jnp.zeros((2, 11, 1025))),
            shared=jnp.zeros((2, 4, 11, 1025)),
            implementation="tpu",
        ),
    }
    for message, bad in refused.items():
        with pytest.raises(ValueError, match=message):
            bad()
    with pallas_kernels.use(None):  # the best that can serve it
        call(cached, new)
