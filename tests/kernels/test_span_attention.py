import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels.span_attention import Keys, gpu, merge, reference, span_attention, tpu
from pallas_kernels.span_attention.cases import REAL, SMALL, Case
from pallas_kernels.traffic import moved_bytes
from tests.kernels.interpreting import checked

CASES = {case.name: case for case in SMALL}
pytestmark = pytest.mark.usefixtures("quick_compilation")
TOLERANCE = {"float32": 2e-6, "bfloat16": 1e-2}


@functools.partial(jax.jit, static_argnums=0, static_argnames=("window", "blocks", "interpret"))
def compiled(kernel, given, **how):
    """One program a kernel, shape and setting."""
    return kernel(
        given["queries"],
        given["query_spans"],
        given["positions"],
        given["parts"],
        scale=0.3,
        **how,
    )


def run(kernel, case, arguments, blocks, **how):
    return compiled(kernel, arguments, window=case.window, blocks=blocks, **how)


def plain(*given, blocks, **how):
    """The reference, which knows no blocks."""
    return reference.span_attention(*given, **how)


attention = jax.jit(span_attention, static_argnames=("implementation", "window"))


def expected(case):
    """The reference in float32, with zeros where the kernel finds NaN."""
    arguments = case.arguments(unseen=0.0)
    exact = lambda x: x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x
    arguments = jax.tree.map(exact, arguments)
    return run(plain, case, arguments, None)


def small_tpu(case):
    """Several blocks of queries and keys even for small cases."""
    parts = 1 + (case.slots > 0)
    heads = 2 if case.kv_heads == 4 else 1
    least = 16 if case.dtype == "bfloat16" else 8
    return tpu.Blocks(heads, 64 if case.queries > 64 else least, (128,) * parts)


def on_tpu(case, arguments):
    with checked():
        return jax.block_until_ready(run(tpu.span_attention, case, arguments, small_tpu(case)))


def on_gpu(case, arguments):
    return run(gpu.span_attention, case, arguments, gpu.Blocks(8, 16, 3), interpret=True)


def on_reference(case, arguments):
    return run(plain, case, arguments, None)


def check(case, result):
    out, log_sum = result
    want, want_log_sum = expected(case)
    assert out.dtype == jnp.dtype(case.dtype) and log_sum.dtype == jnp.float32
    tolerance = TOLERANCE[case.dtype]
    np.testing.assert_allclose(out.astype(jnp.float32), want, atol=tolerance, rtol=tolerance)
    np.testing.assert_allclose(log_sum, want_log_sum, atol=1e-5, rtol=1e-5)


def test_the_reference_against_a_loop_over_heads():
    """Random spans, a window and a bias, in float64 and one query at a time."""
    case = dataclasses.replace(CASES["window and bias"], slots=7, queries=5, heads=6, window=4)
    given = case.arguments(unseen=0.0)
    random = np.random.default_rng(1)
    draw = lambda count: np.sort(random.integers(0, 6, (case.batch, count, 2)), axis=-1)
    query_spans = draw(5)
    query_spans[0, 2] = -1  # sees nothing
    places = random.integers(0, 8, (case.batch, 5))
    parts = [p._replace(key_spans=jnp.asarray(draw(p.key_spans.shape[1]))) for p in given["parts"]]
    out, log_sum = attention(
        given["queries"], jnp.asarray(query_spans), *parts, positions=jnp.asarray(places), window=4
    )
    exact = lambda name, axis: np.concatenate([getattr(p, name) for p in parts], axis).astype(float)
    keys, values, bias = exact("keys", 2), exact("values", 2), exact("bias", 1)
    key_spans, at = exact("key_spans", 1), exact("positions", 1)
    for b, h, t in np.ndindex(out.shape[:3]):
        lo, hi = query_spans[b, t]
        seen = (
            (key_spans[b, :, 0] <= lo)
            & (hi <= key_spans[b, :, 1])
            & (abs(places[b, t] - at[b]) < 4)
        )
        if not seen.any():
            np.testing.assert_array_equal(out[b, h, t], 0)
            assert log_sum[b, h, t] == -np.inf
            continue
        scores = keys[b, h // 3, seen] @ np.asarray(given["queries"][b, h, t], float) / 4
        weights = np.exp(scores + bias[b, seen])
        want = weights @ values[b, h // 3, seen] / weights.sum()
        np.testing.assert_allclose(out[b, h, t], want, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(log_sum[b, h, t], np.log(weights.sum()), rtol=1e-4, atol=1e-5)
    assert (log_sum > -np.inf).sum() > 20


def test_scores_beyond_the_range_of_exp():
    keys = jnp.asarray([[[[1.0, 0.0], [0.0, 1.0]]]])
    queries = jnp.asarray([[[[1e4, 0.0], [-1e4, 0.0]]]])
    everyone = jnp.zeros((1, 2, 2), jnp.int32)
    got, _ = span_attention(queries, everyone, Keys(keys, keys, everyone))
    np.testing.assert_allclose(got, [[[[1.0, 0.0], [0.0, 1.0]]]])


@pytest.mark.parametrize("run_on", [on_reference, on_tpu, on_gpu])
@pytest.mark.parametrize("name", CASES)
def test_kernels_agree_with_the_reference_and_read_nothing_unseen(name, run_on):
    case = CASES[name]
    if run_on is on_reference:
        case = dataclasses.replace(case, dtype="float32")
    check(case, run_on(case, case.arguments(unseen=np.nan)))


@pytest.mark.parametrize("run_on", [on_reference, on_tpu, on_gpu])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_spoils_the_queries_that_see_it_alone(run_on, bad):
    """A later token's keys and values, beside earlier queries of the same block; and values alone."""
    case = dataclasses.replace(CASES["causal text"], queries=20, slots=9)
    arguments = case.arguments(unseen=0.0)
    cached, new = arguments["parts"]
    want = run_on(case, arguments)
    for keys in (bad, 0.0):
        spoiled = new._replace(
            keys=new.keys.at[:, :, 12:].add(keys), values=new.values.at[:, :, 12:, 3].set(bad)
        )
        empty = (cached.key_spans[..., 1] < 0)[:, None, :, None]
        hidden = cached._replace(values=jnp.where(empty, bad, cached.values))
        got = run_on(case, {**arguments, "parts": (hidden, spoiled)})
        for one, other in zip(got, want, strict=True):
            np.testing.assert_array_equal(one[:, :, :12], other[:, :, :12])
        assert not np.isfinite(got[0][:, :, 12:, 3]).any()


def test_two_runs_are_equal_bit_for_bit():
    case = CASES["tree"]
    first, again = (on_tpu(case, case.arguments()) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("run_on", [on_tpu, on_gpu])
def test_a_row_does_not_depend_on_its_neighbours(run_on):
    case = CASES["tree"]
    arguments = case.arguments()
    whole = run_on(case, arguments)
    alone = run_on(dataclasses.replace(case, batch=1), jax.tree.map(lambda x: x[1:2], arguments))
    for a, b in zip(alone, whole, strict=True):
        np.testing.assert_array_equal(a[0], b[1])


@pytest.mark.parametrize("run_on", [on_tpu, on_gpu])
def test_a_query_that_sees_nothing_has_output_zero(run_on):
    case = dataclasses.replace(CASES["tree"], slots=0)
    arguments = case.arguments()
    arguments["query_spans"] = arguments["query_spans"].at[:, 3].set(-5)
    out, log_sum = run_on(case, arguments)
    np.testing.assert_array_equal(out[:, :, 3], 0)
    np.testing.assert_array_equal(log_sum[:, :, 3], -np.inf)
    assert np.isfinite(log_sum[:, :, 4:]).all()


def test_parts_merge_to_the_whole():
    case = CASES["tree"]
    given = case.arguments(unseen=0.0)
    queries, query_spans, parts = given["queries"], given["query_spans"], given["parts"]
    want, want_log_sum = attention(queries, query_spans, *parts)
    got, log_sum = jax.jit(merge)([attention(queries, query_spans, part) for part in parts])
    np.testing.assert_allclose(got, want, atol=1e-6)
    np.testing.assert_allclose(log_sum, want_log_sum, atol=1e-6)
    # Row 0 has an empty cache: the part that saw nothing changes nothing.
    np.testing.assert_array_equal(got[0], attention(queries, query_spans, parts[1])[0][0])


@pytest.mark.parametrize("name", ["tpu", "gpu"])
def test_gradients_are_those_of_the_reference(name):
    case = CASES["one token"]
    given = case.arguments(unseen=0.0)

    def loss(queries, implementation):
        how = {"positions": given["positions"], "implementation": implementation}
        return span_attention(queries, given["query_spans"], *given["parts"], **how)[0].sum()

    if name == "gpu":
        jaxpr = jax.make_jaxpr(jax.grad(loss), static_argnums=1)(given["queries"], name)
        assert "pallas_call" in str(jaxpr)
        return
    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    want = gradient(given["queries"], "reference")
    with checked():
        np.testing.assert_allclose(gradient(given["queries"], name), want, atol=1e-6)


@pytest.mark.parametrize("name", ["tree of 64", "tree of 64, ragged", "tree in a window"])
def test_the_tpu_kernel_fetches_little_more_than_it_must(name):
    """At most 1.3 times the keys and values that are seen, the queries and the outputs, each once."""
    case = next(case for case in REAL if case.name == name)
    # Values do not matter to the index maps: heads of width 0 would do, but the blocks must be those of the real call.
    tiny = dataclasses.replace(case, width=1, kv_heads=1, heads=1).arguments()
    shape = lambda x: jax.ShapeDtypeStruct((8, 8, x.shape[2], 128), jnp.bfloat16)
    queries = jax.ShapeDtypeStruct((8, 32, 64, 128), jnp.bfloat16)
    parts = tuple(p._replace(keys=shape(p.keys), values=shape(p.values)) for p in tiny["parts"])
    held = {}

    def planned(values):
        filled = [p._replace(keys=k, values=v) for p, (k, v) in zip(parts, values[1], strict=True)]
        held["plan"] = tpu.plan(
            values[0],
            tiny["query_spans"],
            tiny["positions"],
            tuple(filled),
            window=case.window,
            scale=1.0,
            blocks=tpu.Blocks.of(queries, parts),
        )
        return held["plan"].prefetched, held["plan"].operands

    shapes = (queries, [(p.keys, p.values) for p in parts])
    _, operands = jax.eval_shape(planned, shapes)
    prefetched = jax.jit(
        lambda: planned(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes))[0]
    )()
    plan = held["plan"]
    moved = sum(moved_bytes(plan.grid_spec.grid, plan.grid_spec.in_specs, operands, prefetched))
    moved += sum(
        moved_bytes(plan.grid_spec.grid, plan.grid_spec.out_specs, plan.out_shape, prefetched)
    )
    least = case.least_bytes(tiny)
    print(f"{name}: {moved / least:.3f} of {least / 1e6:.1f} MB")
    assert least < moved < 1.3 * least


def test_gpu_kernels_lower_for_cuda():
    for case in REAL:
        lowered = jax.jit(case.call("gpu")).trace(case.shapes()).lower(lowering_platforms=("cuda",))
        assert "triton" in lowered.as_text()


def test_bad_shapes_are_refused():
    given = CASES["tree"].arguments()
    queries, query_spans, (cached, new) = given["queries"], given["query_spans"], given["parts"]
    refused = {
        "query_spans must be": lambda: span_attention(queries, query_spans[:, 1:], new),
        "at least 1 part": lambda: span_attention(queries, query_spans),
        "part 1: keys and values": lambda: span_attention(
            queries, query_spans, cached, new._replace(values=new.values[:, :, 1:])
        ),
        "part 0: 2 key-value heads for 3": lambda: span_attention(queries[:, :3], query_spans, new),
        "part 0: key_spans": lambda: span_attention(
            queries, query_spans, new._replace(key_spans=cached.key_spans)
        ),
        "part 0: a window of 4 needs positions": lambda: span_attention(
            queries, query_spans, new._replace(positions=None), window=4
        ),
        "window of 4 needs the queries'": lambda: span_attention(
            queries, query_spans, new, window=4
        ),
        "window must be at least 1": lambda: span_attention(
            queries, query_spans, new, positions=given["positions"], window=0
        ),
    }
    for message, call in refused.items():
        with pytest.raises(ValueError, match=message):
            call()


def test_kernels_that_cannot_serve_a_call_say_why():
    odd = Case("odd", 1, 2, 1, 3, 0, 24).arguments()
    keys = odd["parts"][0]
    with pytest.raises(ValueError, match="24"):
        span_attention(odd["queries"], odd["query_spans"], keys, implementation="gpu")
    whole = Keys(*(x.astype(jnp.float16) for x in keys[:2]), keys.key_spans)
    with pytest.raises(ValueError, match="float16"):
        span_attention(odd["queries"], odd["query_spans"], whole, implementation="tpu")
