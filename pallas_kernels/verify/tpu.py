"""Verification of draft trees on a TPU.

The logits stay in HBM. A program walks down the tree of one row: it copies the logits after the current token to VMEM,
finds the token that follows, and looks in scalar memory for the child that carries it. Rows of the tree off the path
are never read.

Legend: B rows, N draft nodes, T = N + 1 scored tokens, D depth, V vocabulary.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from pallas_kernels.noise import gumbel, key_words
from pallas_kernels.verify.reference import Walked
from pallas_kernels.verify.tpu_remainder import Remainder
from pallas_kernels.verify.tpu_row import LANES, SUBLANES, Row, block_shape, copy_row


def walk(logits, tokens, parents, mask, keys, temperature, banned, noise, *, depth: int) -> Walked:
    """See `pallas_kernels.verify.walk`."""
    del noise  # made in the kernel
    rows, nodes, vocab_size = len(logits), tokens.shape[1], logits.shape[2]
    return _call(
        _walk_kernel,
        "verify_walk",
        [tokens, parents, mask.astype(jnp.int32), key_words(keys), temperature],
        banned,
        [logits],
        [pltpu.SMEM((nodes + 1,), jnp.int32), _row_in_vmem(vocab_size)],
        depth,
        # The noise takes some 250 operations a token.
        _cost(rows * (depth + 1) * vocab_size, operations=270, transcendentals=4),
    )


def ratio_walk(
    logits, q, tokens, parents, mask, uniforms, keys, temperature, banned, *, depth: int
) -> Walked:
    """See `pallas_kernels.verify.ratio_walk`."""
    rows, nodes, vocab_size = len(logits), tokens.shape[1], logits.shape[2]
    read = rows * vocab_size * (depth + 1 + (0 if q is None else nodes))
    return _call(
        functools.partial(_ratio_kernel, drawn=q is not None),
        "verify_ratio_walk",
        [tokens, parents, mask.astype(jnp.int32), uniforms, key_words(keys), temperature],
        banned,
        [logits] if q is None else [logits, q],
        [_row_in_vmem(vocab_size)] * (2 if q is None else 3),
        depth,
        _cost(read, operations=40, transcendentals=4),
    )


def _call(kernel, name, scalars, banned, laws, scratch, depth, cost):
    """Runs a kernel on every row.

    Args:
      kernel: a function of references to scalars `[1, 1, K]`, bias `[8, lanes]` or None, laws (functions from one of K
        to its `[1, V]` in HBM), the fields of `Walked` `[1, 1, K]`, scratch and a semaphore.
      name: of the kernel.
      scalars: arrays `[B, ...]`.
      banned: bool `[B, V]` or None.
      laws: arrays float32 `[B, K, V]`.
      scratch: shapes.
      depth: D.
      cost: an estimate.
    """
    rows, _, vocab_size = laws[0].shape
    # A row of scalars is a block of its own, since blocks are whole in their last two axes.
    scalars = [x.reshape(rows, 1, -1) for x in scalars]
    bias = [] if banned is None else [_bias(banned)]
    of_row = lambda x: pl.BlockSpec(
        (1, 1, x.shape[2]), lambda row: (row, 0, 0), memory_space=pltpu.SMEM
    )
    table = lambda x: pl.BlockSpec((None, *x.shape[1:]), lambda row: (row, 0, 0))
    out = [(jnp.int32, depth + 1), (jnp.int32, 1), (jnp.int32, 1)] + [(jnp.float32, depth + 1)] * 2
    shapes = [jax.ShapeDtypeStruct((rows, 1, size), dtype) for dtype, size in out]

    held = [_in_hbm(x) for x in laws]

    def body(*refs):
        first = len(scalars) + len(bias)
        given = [*refs[: len(scalars)], refs[len(scalars)] if bias else None]
        for ref, (_, apart) in zip(refs[first:], held, strict=False):
            given.append(functools.partial(_place, ref, apart, pl.program_id(0)))
        kernel(*given, *refs[first + len(laws) :], depth=depth, vocab_size=vocab_size)

    found = pl.pallas_call(
        body,
        grid=(rows,),
        in_specs=[
            *map(of_row, scalars),
            *map(table, bias),
            *(pl.BlockSpec(memory_space=pl.ANY) for _ in laws),
        ],
        out_specs=[*map(of_row, shapes)],
        out_shape=shapes,
        scratch_shapes=[*scratch, pltpu.SemaphoreType.DMA],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",)),
        cost_estimate=cost,
        name=name,
    )(*scalars, *bias, *(x for x, _ in held))
    path, count, next_token, log_probs, raw_log_probs = (x[:, 0] for x in found)
    return Walked(path, count[:, 0], next_token[:, 0], log_probs, raw_log_probs)


def _walk_kernel(
    tokens,
    parents,
    mask,
    keys,
    temperature,
    bias,
    logits,
    path,
    count,
    next_token,
    log_probs,
    raw_log_probs,
    alive,
    at,
    semaphore,
    *,
    depth: int,
    vocab_size: int,
):
    """Walks down the tree of one row, whose arguments of `walk` these are; the words of keys stand in a line."""
    row = Row(at, bias, vocab_size, temperature[0, 0, 0])
    nodes = tokens.shape[2]

    # Siblings of one token are followed side by side: `alive` holds the depth of scored tokens that agree so far. All
    # at one depth have the same tokens before them, hence the same law: that after the first of them is read.
    def forget(scored, _):
        alive[scored] = jnp.where(scored == 0, 0, -1)
        return _

    def visit(state):
        level, _, scored = state
        copy_row(logits(scored), at, semaphore)
        law = row.law()

        def perturbed(here, tokens):
            words = keys[0, 0, 2 * level], keys[0, 0, 2 * level + 1]
            noise = gumbel(*words, tokens.astype(jnp.uint32), vocab_size)
            return row.log_probs(here, tokens, law) + noise

        token = row.argmax(
            lambda *block: jax.lax.cond(
                row.greedy, lambda: row.logits(*block)[1], lambda: perturbed(*block)
            )
        )
        token = jnp.where(law.broken, 0, token)[0, 0]  # as the argmax of NaN
        next_token[0, 0, 0] = token
        log_probs[0, 0, level], raw_log_probs[0, 0, level] = row.chances(token, law)

        def follow(node, first):
            agrees = (alive[parents[0, 0, node] + 1] == level) & (tokens[0, 0, node] == token)
            agrees &= mask[0, 0, node] != 0
            alive[node + 1] = jnp.where(agrees, level + 1, alive[node + 1])
            return jnp.where(agrees & (first < 0), node + 1, first)

        # Also stops at a tree that is deeper than was said.
        first = jax.lax.fori_loop(0, jnp.where(level < depth, nodes, 0), follow, -1)
        return level + 1, scored, first

    def climb(up, scored):
        path[0, 0, count[0, 0, 0] - up] = scored
        return parents[0, 0, jnp.maximum(scored - 1, 0)] + 1

    jax.lax.fori_loop(0, nodes + 1, forget, 0)
    _clear(path, log_probs, raw_log_probs)
    visited, last, _ = jax.lax.while_loop(lambda state: state[2] >= 0, visit, (0, 0, 0))
    count[0, 0, 0] = visited - 1
    jax.lax.fori_loop(0, visited, climb, last)


def _ratio_kernel(
    tokens,
    parents,
    mask,
    uniforms,
    keys,
    temperature,
    bias,
    *refs,
    drawn: bool,
    depth: int,
    vocab_size: int,
):
    """Tests the nodes of one row, whose arguments of `ratio_walk` these are; `drawn` is whether there is a q."""
    laws, found, scratch = refs[: 1 + drawn], refs[1 + drawn : 6 + drawn], refs[6 + drawn :]
    path, count, next_token, log_probs, raw_log_probs = found
    at, left, *other, semaphore = scratch
    row = Row(at, bias, vocab_size, temperature[0, 0, 0])
    rest = Remainder(row, left, other[0] if drawn else None)
    nodes = tokens.shape[2]

    def passes(node):
        """Tests a node; if it fails, its law is taken from what is left."""
        threshold = uniforms[0, 0, node]
        if drawn:
            copy_row(laws[1](node), other[0], semaphore)
        return rest.test(tokens[0, 0, node], threshold)

    def close(law):
        """Draws the token that ends the walk from what is left."""
        token = rest.draw(law, keys[0, 0, 0], keys[0, 0, 1])
        next_token[0, 0, 0] = token
        return token

    def visit(state):
        level, scored = state
        path[0, 0, level] = scored
        copy_row(laws[0](scored), at, semaphore)
        law = row.law()
        rest.begin(law)

        def child(node):
            return (mask[0, 0, node] != 0) & (parents[0, 0, node] + 1 == scored)

        def test(node, passed):
            tested = child(node) & (passed < 0)
            result = jax.lax.cond(tested, passes, lambda node: 0, node)
            return jnp.where(result != 0, node, passed)

        # Also stops at a tree that is deeper than was said.
        passed = jax.lax.fori_loop(0, jnp.where(level < depth, nodes, 0), test, -1)
        token = jax.lax.cond(
            passed >= 0, lambda: tokens[0, 0, jnp.maximum(passed, 0)], lambda: close(law)
        )
        log_probs[0, 0, level], raw_log_probs[0, 0, level] = row.chances(token, law)

        def alike(node, first):  # what follows hangs off the first sibling of the token
            same = child(node) & (tokens[0, 0, node] == token) & (first < 0)
            return jnp.where(same, node, first)

        first = jax.lax.fori_loop(0, passed + 1, alike, -1)
        return level + 1, first + 1

    _clear(path, log_probs, raw_log_probs)
    going = lambda state: (state[0] == 0) | (state[1] > 0)
    visited, _ = jax.lax.while_loop(going, visit, (0, 0))
    count[0, 0, 0] = visited - 1


def _clear(*outputs):
    """Zeroes lines of scalars, which are else left as they were past the end of the walk."""

    def clear(level, _):
        for out in outputs:
            out[0, 0, level] = jnp.zeros((), out.dtype)
        return _

    jax.lax.fori_loop(0, outputs[0].shape[2], clear, 0)


def _row_in_vmem(vocab_size):
    return pltpu.VMEM((SUBLANES, block_shape(vocab_size)[0]), jnp.float32)


def _bias(banned):
    """float32 `[B, 8, lanes]`, -inf at banned tokens."""
    rows, vocab_size = banned.shape
    lanes, _ = block_shape(vocab_size)
    bias = jnp.where(banned, -jnp.inf, 0.0)
    bias = jnp.pad(bias, ((0, 0), (0, SUBLANES * lanes - vocab_size)))
    return bias.reshape(rows, SUBLANES, lanes)


def _in_hbm(values):
    """Laws `[B, K, V]` as the kernel reads them, and whether K comes first.

    A vocabulary that does not fill its last register is padded: copies start and end only at whole ones. Of B and K the
    one that fills tiles of 8 better stands beside V, which is how XLA lays such arrays out: else it would copy them.
    """
    rows, places, size = values.shape
    if short := -size % LANES:
        values = jnp.pad(values, ((0, 0), (0, 0), (0, short)))
    apart = rows * (-places % SUBLANES) > places * (-rows % SUBLANES)
    return (values.swapaxes(0, 1) if apart else values), apart


def _place(laws, apart, row, place):
    """One law of a row, `[1, V]` in HBM."""
    return laws.at[place, pl.ds(row, 1)] if apart else laws.at[row, pl.ds(place, 1)]


def _cost(read, operations, transcendentals):
    """Of a walk that reads so many float32, if every depth is accepted and every node tested."""
    return pl.CostEstimate(
        flops=operations * read, transcendentals=transcendentals * read, bytes_accessed=4 * read
    )
