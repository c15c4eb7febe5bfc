"""Commit: the slots that are written and those that are not, by every implementation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pallas_kernels
from pallas_kernels.commit import commit
from pallas_kernels.commit.cases import REAL, SMALL
from tests.kernels import storing
from tests.kernels.storing import bits

pytestmark = pytest.mark.usefixtures("quick_compilation")

NAMES = ("reference", "tpu", "gpu")
run = functools.partial(storing.run, commit)


def stored(arguments):
    """What a commit leaves in specified slots, by a loop in Python; and which slots are specified."""
    cache, new, index, start, count = jax.tree.map(np.array, arguments)
    slots, places = cache[0].shape[2], index.shape[1]
    specified = np.ones((len(index), slots), bool)
    for row in range(len(index)):
        if count[row] == 0 or start[row] < 0 or start[row] + places > slots:
            continue
        specified[row, start[row] + count[row] : start[row] + places] = False
        for place in range(count[row]):
            for old, x in zip(cache, new, strict=True):
                old[row, :, start[row] + place] = x[row, :, index[row, place]]
    return cache, specified


def check(arguments, implementation):
    wanted, specified = stored(arguments)
    found = run(arguments, implementation)
    for have, want in zip(found, wanted, strict=True):
        assert have.dtype == want.dtype
        have, want = (bits(x).swapaxes(1, 2)[specified] for x in (have, want))
        np.testing.assert_array_equal(have, want)
    return found


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_a_path_is_stored_bit_for_bit(case):
    arguments = case.arguments()
    for implementation in NAMES:
        first = check(arguments, implementation)
        for have, again in zip(first, run(arguments, implementation), strict=True):
            np.testing.assert_array_equal(bits(have), bits(again))


def placed(starts, counts, places=5, dtype="float32"):
    """Arguments with these rows; 24 slots in three windows."""
    case = SMALL[1]
    case = type(case)("", len(starts), 2, 24, 8, 7, places, dtype)
    cache, new, index, *_ = case.arguments()
    return cache, new, index, jnp.asarray(starts, jnp.int32), jnp.asarray(counts, jnp.int32)


@pytest.mark.parametrize("implementation", NAMES)
@pytest.mark.parametrize(
    ("starts", "counts"),
    [
        ([3, 9, 1, 5], [0, 0, 0, 0]),
        ([3, 9, 1, 5], [0, 0, 0, 4]),
        ([3, 9, 1, 5], [2, 0, 0, 0]),
        ([3, 5, 1, 6], [0, 5, 0, 5]),
        ([0, 7, 8, 19], [5, 1, 5, 5]),
        ([20, 21, 24, -1], [5, 1, 2, 3]),  # no room for five slots
    ],
)
def test_rows_that_store_nothing_keep_what_they_have(starts, counts, implementation):
    check(placed(starts, counts), implementation)


@pytest.mark.parametrize("implementation", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nothing_leaks_from_what_is_not_stored(dtype, implementation):
    """Empty slots and new tokens outside of the path are NaN."""
    cache, new, index, start, count = placed([3, 10, 14, 19], [5, 2, 0, 5], dtype=dtype)
    used = np.zeros((4, 7), bool)
    for row in range(4):
        used[row, np.asarray(index)[row, : count[row]]] = True
    poison = lambda x, keep: jnp.where(keep[:, None, :, None], x, jnp.nan).astype(dtype)
    cache = jax.tree.map(lambda x: poison(x, np.arange(24) < np.asarray(start)[:, None]), cache)
    new = jax.tree.map(lambda x: poison(x, used), new)
    found = check((cache, new, index, start, count), implementation)
    for x in found:
        for row in range(4):
            assert np.isfinite(x[row, :, : start[row] + count[row]].astype(np.float32)).all()


@pytest.mark.parametrize("implementation", NAMES)
def test_new_tokens_take_the_types_of_the_cache(implementation):
    cache, new, *path = placed([3, 10], [5, 2], dtype="bfloat16")
    wider = jax.tree.map(lambda x: x.astype(jnp.float32), new)
    for have, want in zip(
        run((cache, wider, *path), implementation),
        run((cache, new, *path), implementation),
        strict=True,
    ):
        np.testing.assert_array_equal(bits(have), bits(want))


def test_arrays_may_differ_in_heads_width_and_type():
    cache, new, *path = placed([3, 10, 2], [5, 2, 0])
    cut = lambda pair: (pair[0], pair[1][:, :1, :, :4].astype(jnp.bfloat16))
    for name in NAMES:
        check((cut(cache), cut(new), *path), name)


def test_the_cache_is_given_away():
    for implementation in ("tpu", "gpu"):
        lowered = jax.jit(
            functools.partial(commit, implementation=implementation), donate_argnums=0
        ).trace(*SMALL[0].shapes())
        text = lowered.lower(lowering_platforms=(implementation.replace("gpu", "cuda"),)).as_text()
        assert text.count("output_operand_alias") >= 2
        assert text.count("tf.aliasing_output") == 2


@pytest.mark.parametrize("case", REAL, ids=lambda case: case.name)
def test_real_sizes_lower_for_both_kinds_of_device(case):
    for implementation, platform in (("tpu", "tpu"), ("gpu", "cuda")):
        function = jax.jit(functools.partial(commit, implementation=implementation))
        function.trace(*case.shapes()).lower(lowering_platforms=(platform,))


def test_shapes_that_do_not_fit_are_refused():
    cache, new, index, start, count = placed([3, 10], [5, 2])
    refused = [
        ((cache[:1], new, index, start, count), "built alike"),
        (((), (), index, start, count), "arrays"),
        ((cache, new, index[:1], start, count), r"index must be \[2, A\], got \(1, 5\)"),
        ((cache, new, index, start[:1], count), r"start must be \[2\], got \(1,\)"),
        ((cache, new, index, start, count[None]), r"count must be \[2\]"),
        ((cache, (new[0], new[1][:, :1]), index, start, count), "new must be"),
        (((cache[0], cache[1][:, :, 1:]), new, index, start, count), "the cache must be"),
        ((cache, new, jnp.zeros((2, 25), jnp.int32), start, count), "1 to 24 places, got 25"),
    ]
    for arguments, message in refused:
        with pytest.raises(ValueError, match=message):
            commit(*arguments)


def test_what_the_kernel_cannot_hold_is_refused_by_name_only():
    case = type(SMALL[0])("", 1, 16, 4096, 256, 1024, 4, "bfloat16")
    call = functools.partial(commit, implementation="tpu")
    with pytest.raises(ValueError, match=r"1024 new tokens need \d+ bytes of VMEM, above"):
        jax.eval_shape(call, *case.shapes())
    wide = type(SMALL[0])("", 1, 1, 8, 8, 2, 1, "complex64")
    with pytest.raises(ValueError, match="complex64"), pallas_kernels.use("tpu"):
        jax.eval_shape(commit, *wide.shapes())
    jax.eval_shape(commit, *case.shapes())
    huge = type(case)("", 256, 16, 4096, 128, 1, 1, "bfloat16")
    with pytest.raises(ValueError, match="'gpu': offsets are 32 bits wide, got 2147483648"):
        jax.eval_shape(functools.partial(commit, implementation="gpu"), *huge.shapes())
