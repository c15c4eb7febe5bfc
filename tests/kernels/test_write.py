"""Write: the slots that are written and those that are not, by every implementation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
import pallas_kernels
from jaxdec import diffusion
from jaxdec.models import Transformer, TransformerConfig
from pallas_kernels.commit import tpu, write
from pallas_kernels.commit.cases import REAL_WRITES, SMALL_WRITES, Case
from tests.kernels import storing
from tests.kernels.interpreting import checked
from tests.kernels.storing import bits

pytestmark = pytest.mark.usefixtures("quick_compilation")

NAMES = ("reference", "tpu", "gpu")
run = functools.partial(storing.run, write)


def check(arguments, implementation):
    """Against a loop in Python, bit for bit."""
    cache, new, slots = jax.tree.map(np.array, arguments)
    for row, token in np.ndindex(slots.shape):
        if 0 <= slots[row, token] < cache[0].shape[2]:
            for old, x in zip(cache, new, strict=True):
                old[row, :, slots[row, token]] = x[row, :, token]
    found = run(arguments, implementation)
    for have, want in zip(found, cache, strict=True):
        assert have.dtype == want.dtype
        np.testing.assert_array_equal(bits(have), bits(want))
    return found


@pytest.mark.parametrize("case", SMALL_WRITES, ids=lambda case: case.name)
def test_tokens_are_stored_bit_for_bit(case):
    arguments = case.write_arguments()
    for implementation in NAMES:
        first = check(arguments, implementation)
        for have, again in zip(first, run(arguments, implementation), strict=True):
            np.testing.assert_array_equal(bits(have), bits(again))


def placed(slots, dtype="float32"):
    """Arguments with these slots; 32 slots a row in four windows (one for a type of 8 bits)."""
    slots = jnp.asarray(slots, jnp.int32)
    case = Case("", len(slots), 2, 32, 8, slots.shape[1], slots.shape[1], dtype)
    return *case.write_arguments()[:2], slots


SKIPPED = [-1, 32, -1, 33, -(2**31), 2**31 - 1]
ROWS = {
    "turns": [[0, 8, 1, 9, 2, 10], [31, 0, 16, 1, 17, 30]],
    "descending": [[21, 20, 12, 11, 3, 2], [5, 4, 3, 2, 1, 0]],
    "skipped tokens": [[-1, 9, 40, 8, -7, 30], [32, -1, -1, -1, 5, 32]],
}
BATCHES = {
    "turns, descending, skipped tokens": [row for rows in ROWS.values() for row in rows],
    "skipped rows": [SKIPPED, [7, 8, 9, 15, 16, 6], SKIPPED, SKIPPED, [0, 31, 4, 5, 6, 7], SKIPPED],
    "all rows skipped": [SKIPPED] * 6,
}


@pytest.mark.parametrize("implementation", NAMES)
@pytest.mark.parametrize("name", BATCHES)
def test_slots_in_any_order(name, implementation):
    check(placed(BATCHES[name]), implementation)


@pytest.mark.parametrize("implementation", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3fn"])
def test_nothing_leaks_from_what_is_not_stored(dtype, implementation):
    """Slots that are not written, and tokens that are skipped, are NaN."""
    rows = [[20, 3, -1, 2, 40, 21], SKIPPED, [9, -1, 8, 0, 31, 1]]
    cache, new, slots = placed(2 * rows, dtype)
    stored = (slots >= 0) & (slots < 32)
    cache = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), cache)
    new = jax.tree.map(lambda x: jnp.where(stored[:, None, :, None], x, jnp.nan).astype(dtype), new)
    for x in check((cache, new, slots), implementation):
        kept = np.isfinite(x.astype(np.float32)).all((1, 3))
        assert kept.sum(1).tolist() == 2 * [4, 0, 5]


@pytest.mark.parametrize("implementation", NAMES)
def test_new_tokens_take_the_types_of_the_cache(implementation):
    cache, new, slots = placed(3 * ROWS["descending"], "bfloat16")
    wider = jax.tree.map(lambda x: x.astype(jnp.float32), new)
    for have, want in zip(
        run((cache, wider, slots), implementation),
        run((cache, new, slots), implementation),
        strict=True,
    ):
        np.testing.assert_array_equal(bits(have), bits(want))


def test_arrays_may_differ_in_heads_width_and_type():
    cache, new, slots = placed(ROWS["turns"])
    cut = lambda pair: (pair[0], pair[1][:, :1, :, :4].astype(jnp.bfloat16))
    for name in NAMES:
        check((cut(cache), cut(new), slots), name)


def test_every_window_is_visited_once():
    """Repetitions stand next to each other, so that no window is fetched or written back twice."""
    slots = [[0] * 4, [3, 4, 5, 9], [0] * 4, [14, 17, 19, 27], [7, 40, 40, 40], [0] * 4]
    count = jnp.asarray([0, 4, 0, 4, 1, 0])
    visits = jax.jit(tpu.visits, static_argnums=(2, 3))
    plan, most = visits(jnp.asarray(slots), count, 8, 4)
    steps = list(
        zip(
            np.repeat(plan.rows, most).tolist(),
            *(x.reshape(6, 4)[:, :most].reshape(-1).tolist() for x in plan[1:]),
            strict=True,
        )
    )
    changes = [step for i, step in enumerate(steps) if i == 0 or step != steps[i - 1]]
    expected = [(1, 0, 0, 3), (1, 1, 3, 4), (3, 1, 0, 1), (3, 2, 1, 3), (3, 3, 3, 4), (4, 0, 0, 1)]
    assert most == 3 and changes == expected
    plan, most = visits(jnp.asarray(slots), jnp.zeros(6, jnp.int32), 8, 4)
    assert most == 1 and not any(x.any() for x in plan)


def test_the_cache_is_given_away():
    for implementation in ("tpu", "gpu"):
        function = functools.partial(write, implementation=implementation)
        traced = jax.jit(function, donate_argnums=0).trace(*SMALL_WRITES[0].write_shapes())
        platform = implementation.replace("gpu", "cuda")
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert text.count("output_operand_alias") >= 2
        assert text.count("tf.aliasing_output") == 2


@pytest.mark.parametrize("case", REAL_WRITES, ids=lambda case: case.name)
def test_real_sizes_lower_for_both_kinds_of_device(case):
    for implementation, platform in (("tpu", "tpu"), ("gpu", "cuda")):
        function = jax.jit(functools.partial(write, implementation=implementation))
        function.trace(*case.write_shapes()).lower(lowering_platforms=(platform,))


def test_what_does_not_fit_is_refused():
    cache, new, slots = placed(ROWS["descending"])
    with pytest.raises(ValueError, match=r"slots must be \[2, 6\], got \(2, 5\)"):
        write(cache, new, slots[:, 1:])
    with pytest.raises(ValueError, match="built alike"):
        write(cache, new[:1], slots)
    with pytest.raises(ValueError, match="new must be"):
        write(cache, (new[0], new[1][:, :1]), slots)
    wide = Case("", 1, 16, 4096, 256, 1024, 1024, "bfloat16").write_shapes()
    many = Case("", 128, 1, 4096, 128, 512, 512, "bfloat16").write_shapes()
    for shapes, message in ((wide, r"1024 new tokens need \d+ bytes"), (many, "scalar memory")):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(functools.partial(write, implementation="tpu"), *shapes)
        jax.eval_shape(write, *shapes)


CANVASES = {
    "block": dict(attention="causal", refresh=diffusion.refresh.block()),
    "dual": dict(refresh=diffusion.refresh.dual()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CANVASES)
def test_canvas_decoders_write_the_same_tokens(name):
    """Ragged rows, narrow and wide steps, and prompts through the kernel too."""
    config = TransformerConfig(
        vocab_size=12, width=16, layers=1, heads=2, kv_heads=1, head_dim=8, hidden=16
    )
    raw, params = jaxdec.from_nnx(Transformer(config, rngs=nnx.Rngs(0)))
    decoder = jaxdec.denoise(
        diffusion.canvas_model(raw, 11), schedule=diffusion.schedules.blocks(4), **CANVASES[name]
    )
    prompt = np.arange(15).reshape(3, 5) % 11
    decode = lambda: jaxdec.generate(
        decoder,
        {"target": params},
        prompt,
        rng=jax.random.key(0),
        lengths=[5, 1, 3],
        max_new_tokens=[8, 3, 6],
    )
    with pallas_kernels.use("reference"):
        wanted = decode()
    with pallas_kernels.use("tpu"), checked():
        found = decode()
    np.testing.assert_array_equal(found.tokens, wanted.tokens)
    np.testing.assert_array_equal(found.steps, wanted.steps)
    np.testing.assert_array_equal(found.stats.target_rows, wanted.stats.target_rows)
