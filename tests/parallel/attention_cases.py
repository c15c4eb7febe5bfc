"""Attention over keys that are split over eight devices against one device with all of them; prints JSON.

A process of its own: see `tests.parallel.virtual`.
"""

from tests.parallel import virtual  # isort: skip

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from pallas_kernels.span_attention import Keys, Split, span_attention, split, tokens_split
from tests.parallel.collectives import collectives, counts, total

DEVICES = 8
MESH = Mesh(np.asarray(jax.devices()), ("sequence",))
B, H, K, S, D, E = 3, 4, 2, 24, 8, 3
T = 16
FORMS = ("gather", "ring", "bidirectional")
WINDOW = 9
HEADS = P(None, None, "sequence")
SLOTS = P(None, "sequence")


def keys(rng, count, used):
    """Random keys with a bias and shared columns; those that are not in use hold NaN and are seen by nobody."""
    draw = lambda *shape: rng.standard_normal(shape, np.float32)
    spans = np.sort(rng.integers(0, 12, (B, count, 2)), axis=-1).astype(np.int32)
    arrays = [draw(B, K, count, D), draw(B, K, count, D)]
    for array in arrays:
        array[~np.broadcast_to(used[:, None], array.shape[:3])] = np.nan
    spans[~used] = (2**30, -(2**30))
    places = rng.integers(0, 12, (B, count)).astype(np.int32)
    return Keys(*arrays, spans, places, draw(B, count), draw(B, count, E))


def arguments():
    """Queries, a cache of ragged rows (the last one empty) and new keys."""
    rng = np.random.default_rng(0)
    fill = np.array([S, 7, 0])
    query_spans = np.sort(rng.integers(0, 12, (B, T, 2)), axis=-1).astype(np.int32)
    query_spans[1, 3] = query_spans[2, 9] = (-1, 100)  # see nothing
    return {
        "queries": rng.standard_normal((B, H, T, D), np.float32),
        "query_spans": query_spans,
        "positions": rng.integers(0, 12, (B, T)).astype(np.int32),
        "shared_queries": rng.standard_normal((B, H, T, E), np.float32),
        "cached": keys(rng, S, np.arange(S) < fill[:, None]),
        "new": keys(rng, T, rng.random((B, T)) < 0.8),
    }


PART = Keys(HEADS, HEADS, SLOTS, SLOTS, SLOTS, SLOTS)
WHOLE = {"queries": P(), "query_spans": P(), "positions": P(), "shared_queries": P()}
SHARES = {"queries": HEADS, "query_spans": SLOTS, "positions": SLOTS, "shared_queries": HEADS}


def attention(given, cached, new, **how):
    return span_attention(
        given["queries"],
        given["query_spans"],
        cached,
        new,
        positions=given["positions"],
        shared_queries=given["shared_queries"],
        **how,
    )


def program(form, queries, cut=T):
    """A jitted call over the mesh, queries whole or shared out; `cut` of them where whole."""

    def whole(given):
        cached = Split(given["cached"], "sequence", form)
        given = given | {name: given[name] for name in WHOLE}
        few = lambda name, axis: jax.lax.slice_in_dim(given[name], 0, cut, axis=axis)
        axes = {"queries": 2, "query_spans": 1, "positions": 1, "shared_queries": 2}
        given = given | {name: few(name, axis) for name, axis in axes.items()}
        return attention(given, cached, given["new"], window=WINDOW)

    def shared(given):
        with tokens_split("sequence", form):
            cached = Split(given["cached"], "sequence")
            return attention(given, cached, given["new"], window=WINDOW)

    specs = {"cached": PART, "new": P()} | WHOLE
    if queries == "shared":
        specs = {"cached": PART, "new": PART} | SHARES
    body, out = (whole, P()) if queries == "whole" else (shared, HEADS)
    return jax.jit(
        jax.shard_map(body, mesh=MESH, in_specs=(specs,), out_specs=out, check_vma=False)
    )


@functools.cache
def expected():
    given = jax.tree.map(jnp.asarray, arguments())
    return attention(given, given["cached"], given["new"], window=WINDOW)


def summed():
    """Many bytes are not gathered: a sum of weighted outputs and weights, and a maximum of log-sum-exps."""
    PLANNED["gather", "whole", 1] = {"all-reduce": 2}, B * (FOUND + 4 * H)
    with mock.patch.object(split, "LATENCY", 0):
        return equal("gather", "whole", 1)


def equal(form, queries, cut=T):
    """Differences from one device, and from what the program should communicate."""
    given = arguments()
    call = program(form, queries, cut).lower(given).compile()
    got, wanted = call(given), [x[:, :, :cut] for x in expected()]
    wrong = [
        f"{name}: {np.abs(np.nan_to_num(a - b)).max()}"
        for name, a, b in zip(("outputs", "log-sum-exps"), got, wanted, strict=True)
        if not np.allclose(a, b, rtol=1e-5, atol=2e-6)
    ]
    assert not np.isfinite(wanted[1]).all() or cut < T, "some query should see nothing"
    found = collectives(call.as_text())
    planned = PLANNED[form, queries, cut]
    if (counts(found), total(found)) != planned:
        wrong.append(f"communicates {counts(found)}, {total(found)} bytes; planned {planned}")
    return wrong


KEYS = 4 * (2 * K * D + 2 + 1 + 1 + E)
"""Bytes of a key, its value and what stands beside it, in a row."""
ASKED = 4 * (H * D + 2 + 1 + H * E)
"""Those of a query."""
FOUND = 4 * H * (D + 1)
"""Those of a partial result."""
SHARE, SLICE, REST = T // DEVICES, S // DEVICES, DEVICES - 1
PLANNED = {
    # All partial results, of few bytes.
    ("gather", "whole", T): ({"all-gather": 1}, DEVICES * B * T * FOUND),
    # Six arrays of keys in each of seven steps, then all outputs.
    ("ring", "whole", T): (
        {"all-gather": 1, "collective-permute": 6 * REST},
        B * (REST * SLICE * KEYS + T * FOUND),
    ),
    # Four arrays of queries one way and a result the other, seven times, then all outputs.
    ("bidirectional", "whole", T): (
        {"all-gather": 1, "collective-permute": 5 * REST},
        B * (REST * SHARE * (ASKED + FOUND) + T * FOUND),
    ),
    ("bidirectional", "whole", 1): (
        {"all-gather": 1, "collective-permute": 5 * REST},
        B * (REST * (ASKED + FOUND) + DEVICES * FOUND),
    ),
    ("gather", "shared", T): ({"all-gather": 12}, B * (S + T) * KEYS),
    ("ring", "shared", T): (
        {"collective-permute": 12 * REST},
        B * REST * (SLICE + SHARE) * KEYS,
    ),
    ("bidirectional", "shared", T): (
        {"collective-permute": 5 * REST},
        B * REST * SHARE * (ASKED + FOUND),
    ),
}


def raised(function):
    try:
        function()
    except ValueError as error:
        return str(error)
    return "nothing was raised"


def refused():
    given = jax.tree.map(jnp.asarray, arguments())
    part = lambda **how: Split(given["cached"], **how)
    outside = raised(lambda: attention(given, part(axis="sequence"), given["new"]))
    two = raised(lambda: attention(given, part(axis="a"), part(axis="b", form="ring")))
    other = raised(lambda: part(axis="a", form="star"))
    wanted = (
        (outside, "split over 'sequence', which is not an axis"),
        (two, "over one axis in one form, got [('a', 'gather'), ('b', 'ring')]"),
        (other, "form must be one of gather, ring, bidirectional, got 'star'"),
    )
    return [text for text, part_of in wanted if part_of not in text]


CASES = {
    **{f"{form}, whole queries": (equal, form, "whole") for form in FORMS},
    **{f"{form}, shared queries": (equal, form, "shared") for form in FORMS},
    "gather, summed": (summed,),
    "bidirectional, one query": (equal, "bidirectional", "whole", 1),
    "refused": (refused,),
}

if __name__ == "__main__":
    virtual.report(CASES)
