"""What kernels move, by their index maps, against sums by hand."""

from jaxdec.planning.hlo import Array
from jaxdec.planning.kernels import at_context

BATCH, HEADS, GROUP, SLOTS, WIDTH = 2, 2, 4, 1032, 128


def attention(context, fast=False):
    scalars = tuple(Array("s32", (n,)) for n in (6, 2, 2, 2))
    asked = Array("s32", (BATCH, 16, 2))
    queries = Array("bf16", (BATCH, HEADS, GROUP, 16, WIDTH))
    cache = Array("bf16", (BATCH, HEADS, SLOTS, WIDTH), fast)
    new = Array("bf16", (BATCH, HEADS, 9, WIDTH))
    spans = Array("s32", (BATCH, 2, 1536))
    inputs = (
        *scalars,
        asked,
        queries,
        cache,
        cache,
        spans,
        new,
        new,
        Array("s32", (BATCH, 2, 128)),
    )
    return at_context(context)("span_attention", inputs, ())


def test_attention_fetches_the_blocks_that_are_seen():
    few, some, all_ = (attention(context)[0] for context in (500, 1000, SLOTS))
    block = (
        2 * BATCH * HEADS * 512 * WIDTH * 2 + BATCH * 2 * 512 * 4
    )  # keys and values, their spans
    assert some - few == block
    last = 2 * BATCH * HEADS * (SLOTS - 1024) * WIDTH * 2 + BATCH * 2 * 512 * 4
    assert all_ - some == last
    assert attention(1000)[1] == 4 * BATCH * HEADS * GROUP * 16 * WIDTH * (1000 + 9)


def test_what_was_brought_to_the_fast_memory_is_not_read_again():
    slow, free = attention(SLOTS)[0], attention(SLOTS, fast=True)[0]
    assert slow - free == 2 * BATCH * HEADS * SLOTS * WIDTH * 2  # keys and values of the cache
    new, cache = Array("bf16", (2, 2, 9, 128), True), Array("bf16", (2, 2, 64, 128), True)
    scalars = (Array("s32", ()), Array("s32", (2,)), Array("s32", (12,)))
    given = (*scalars, cache, cache, new, new)
    assert at_context(10)("commit", given, (cache, cache)) == (0, 0)
    assert at_context(10)("verify_walk", (new,), (cache,)) == (0, 0)


def test_a_commit_moves_windows():
    cache, new = Array("bf16", (BATCH, HEADS, 1024, WIDTH)), Array("bf16", (BATCH, HEADS, 9, WIDTH))
    scalars = (Array("s32", ()), Array("s32", (BATCH,)), Array("s32", (BATCH * 6,)))
    moved, flops = at_context(900)("commit", (*scalars, cache, cache, new, new), (cache, cache))
    window = BATCH * HEADS * 8 * WIDTH * 2
    assert moved == 2 * (2 * 2 * window) + 2 * new.nbytes  # two windows a row, read and written
    assert flops == 0


def test_others_move_all_that_they_are_given():
    given = Array("f32", (4, 8))
    assert at_context(10)("verify_walk", (given,), (given, given)) == (3 * 128, 0)
