"""What is checked and timed of each kernel: a list of entries an operation.

Legend: B rows, T new tokens, S slots, D head width, V vocabulary.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pallas_kernels.commit import cases as commit_cases
from pallas_kernels.commit import commit, write
from pallas_kernels.span_attention import cases as span_cases
from pallas_kernels.unmask import cases as unmask_cases
from pallas_kernels.unmask import unmask
from pallas_kernels.verify import cases as verify_cases
from pallas_kernels.verify import ratio_walk, walk

Arguments = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Alternative:
    """A public function for the same work.

    Attributes:
      name: of the function.
      prepare: brings the arguments into the form that it wants, untimed.
      function: of what `prepare` returns.
      finish: makes of its output the first output of the operation.
    """

    name: str
    prepare: Callable[..., Arguments]
    function: Callable[..., Any]
    finish: Callable[[Any], Any]


@dataclasses.dataclass(frozen=True)
class Entry:
    """An operation at one shape.

    Attributes:
      operation: the folder of `pallas_kernels`.
      name: of the shape.
      function: the operation; the implementation is that of the enclosing `pallas_kernels.use`.
      shapes: of its arguments.
      arguments: makes them.
      least_bytes: what must be read and written for given arguments, each number once.
      indices: arguments that say which blocks the index maps visit; shapes stand for those that do not matter.
      tolerance: of the outputs, relative to 1 + their size.
      different: the share of integers that may differ, where rounding decides between equals.
      compared: `(arguments, output)` to the part of the output that is specified.
      alternatives: public functions for the same.
      in_place: whether the first argument is given away and comes back changed.
    """

    operation: str
    name: str
    function: Callable[..., Any]
    shapes: Arguments
    arguments: Callable[[], Arguments]
    least_bytes: Callable[[Arguments], int]
    indices: Callable[[], Arguments]
    tolerance: float
    different: float = 0.0
    compared: Callable[[Arguments, Any], Any] = lambda arguments, output: output
    alternatives: tuple[Alternative, ...] = ()
    in_place: bool = False


def nbytes(tree: Any) -> int:
    """Bytes of arrays, or of their shapes."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def span_attention(quick: bool) -> list[Entry]:
    """Of real sizes; the small ones if `quick`."""
    found = []
    for case in span_cases.SMALL if quick else span_cases.REAL:
        arguments = lambda case=case: (case.arguments(unseen=0.0),)
        found.append(
            Entry(
                "span_attention",
                case.name,
                case.call(),
                (case.shapes(),),
                arguments,
                lambda given, case=case: case.least_bytes(*given),
                arguments,
                tolerance=2e-2 if case.dtype == "bfloat16" else 1e-3,
                alternatives=_dense(case),
            )
        )
    return found


def _dense(case: span_cases.Case) -> tuple[Alternative, ...]:
    """`jax.nn.dot_product_attention` where its own masks suffice: all keys of a row up to its length."""
    everything = case.pattern in ("block", "canvas") or case.queries == 1
    if not everything or case.window is not None or case.bias:
        return ()
    kind = "cudnn" if jax.default_backend() == "gpu" else "xla"

    def prepare(given):
        """Each row's committed tokens and the new ones behind them, without a gap."""
        parts = given["parts"]
        new, lengths = parts[-1], jnp.full((case.batch,), case.queries, jnp.int32)
        keys, values = new.keys, new.values
        if case.slots:
            held = parts[0]
            used = (held.key_spans[..., 0] <= held.key_spans[..., 1]).sum(-1).astype(jnp.int32)
            place = jnp.arange(case.slots + case.queries)
            at = jnp.where(place < used[:, None], place, case.slots + place - used[:, None])
            at = jnp.clip(at, 0, case.slots + case.queries - 1)[:, None, :, None]
            join = lambda old, x: jnp.take_along_axis(jnp.concatenate([old, x], 2), at, axis=2)
            keys, values = join(held.keys, keys), join(held.values, values)
            lengths += used
        return (*(x.swapaxes(1, 2) for x in (given["queries"], keys, values)), lengths)

    def function(queries, keys, values, lengths):
        lengths = lengths if case.slots else None
        return jax.nn.dot_product_attention(
            queries, keys, values, key_value_seq_lengths=lengths, implementation=kind
        )

    name = f"dot_product_attention, {kind}"
    return (Alternative(name, prepare, function, lambda out: out.swapaxes(1, 2)),)


def unmasking(quick: bool) -> list[Entry]:
    """Of real sizes; tiny ones if `quick`."""
    found = []
    for case in unmask_cases.SMALL if quick else unmask_cases.REAL:
        outputs = case.rows * 11 * 4  # a token and twice five statistics
        found.append(
            Entry(
                "unmask",
                case.name,
                unmask,
                case.shapes(),
                case.arrays,
                lambda given, outputs=outputs: nbytes(given) + outputs,
                case.shapes,
                tolerance=2e-3,
                different=0.02,
            )
        )
    return found


def verification(quick: bool) -> list[Entry]:
    """Walks of the whole depth, all drafts accepted; ratio walks that end at once, all rejected."""
    found = []
    for case in verify_cases.SMALL if quick else verify_cases.REAL:
        shapes = verify_cases.walk_shapes(case)
        read = case.batch * (case.depth + 1) * case.vocab_size * (4 + case.bans)
        found.append(
            Entry(
                "verify",
                case.name,
                functools.partial(walk, depth=case.depth),
                shapes,
                functools.partial(_accepted, case),
                lambda given, read=read: read,
                lambda shapes=shapes: shapes,
                tolerance=2e-3,
                different=0.02,
                compared=_walked,
            )
        )
        # Nothing is accepted: the pending token's law is read, and those of its children.
        tested = case.batch * (1 + case.parents.count(-1)) * case.vocab_size * 4
        shapes = verify_cases.ratio_shapes(case)
        found.append(
            Entry(
                "verify",
                f"{case.name}, ratio",
                functools.partial(ratio_walk, depth=case.depth),
                shapes,
                functools.partial(_rejected, case),
                lambda given, tested=tested: tested,
                lambda shapes=shapes: shapes,
                tolerance=2e-3,
                different=0.02,
                compared=_walked,
            )
        )
    return found


def _rejected(case: verify_cases.Case, seed: int = 0) -> Arguments:
    """Arguments of `ratio_walk` in which no test passes."""
    random = np.random.default_rng(seed)
    logits, *_, temperature = verify_cases.walk_shapes(dataclasses.replace(case, bans=False))
    normal = lambda *shape: jnp.asarray(random.standard_normal(shape, np.float32))
    batch, nodes, size = case.batch, len(case.parents), case.vocab_size
    tables = [jnp.asarray(random.random((batch, size)) < 0.3)] if case.bans else []
    return (
        normal(*logits.shape),
        jax.nn.log_softmax(normal(batch, nodes, size)),
        jnp.asarray(random.integers(0, size, (batch, nodes)), jnp.int32),
        jnp.broadcast_to(jnp.array(case.parents, jnp.int32), (batch, nodes)),
        jnp.ones((batch, nodes), bool),
        jnp.full((batch, nodes), 1e9, jnp.float32),  # a uniform that fails every test
        jnp.asarray(random.integers(0, 2**32, (batch, 2), np.uint32)),
        jnp.full(temperature.shape, 0.8, jnp.float32),
        *tables,
    )


def _accepted(case: verify_cases.Case, seed: int = 0) -> Arguments:
    """Arguments of `walk` in which every node carries the token that is drawn at its depth."""
    random = np.random.default_rng(seed)
    batch, nodes = case.batch, len(case.parents)
    # One law after every token: what is drawn depends on the depth alone.
    law = random.standard_normal((batch, 1, case.vocab_size), np.float32) * 3
    logits = jnp.asarray(np.repeat(law, nodes + 1, axis=1))
    keys = jnp.asarray(random.integers(0, 2**32, (batch, case.depth + 1, 2), np.uint32))
    depths = np.zeros(nodes, int)
    for node, parent in enumerate(case.parents):
        depths[node] = 1 if parent < 0 else depths[parent] + 1
    tables = [jnp.asarray(random.random((batch, case.vocab_size)) < 0.3)] if case.bans else []
    parents = jnp.broadcast_to(jnp.array(case.parents, jnp.int32), (batch, nodes))
    rest = jnp.ones((batch, nodes), bool), keys, jnp.full((batch,), 0.8, jnp.float32), *tables
    tokens = np.zeros((batch, nodes), np.int32)
    drawn = jax.jit(
        functools.partial(walk, depth=case.depth, implementation="reference")
    )  # each call finds the tokens of one more depth
    for depth in range(1, case.depth + 1):
        found = drawn(logits, jnp.asarray(tokens), parents, *rest)
        tokens[:, depths == depth] = np.asarray(found.next_token)[:, None]
    return logits, jnp.asarray(tokens), parents, *rest


def _walked(arguments: Arguments, walked: Any) -> Any:
    """Log-probabilities past the last token are arbitrary."""
    chunk = jnp.arange(walked.path.shape[1]) <= walked.count[:, None]
    cut = lambda x: jnp.where(chunk, x, 0)
    return dataclasses.replace(
        walked, log_probs=cut(walked.log_probs), raw_log_probs=cut(walked.raw_log_probs)
    )


def committing(quick: bool) -> list[Entry]:
    """Of real sizes; small ones if `quick`."""
    found = []
    for case in commit_cases.SMALL if quick else commit_cases.REAL:
        found.append(
            Entry(
                "commit",
                case.name,
                commit,
                case.shapes(),
                case.arguments,
                _stored_bytes,
                lambda case=case: (*case.shapes()[:2], *case.path()),
                tolerance=0.0,
                compared=_specified,
                in_place=True,
            )
        )
    for case in commit_cases.SMALL_WRITES if quick else commit_cases.REAL_WRITES:
        found.append(
            Entry(
                "commit",
                f"write: {case.name}",
                write,
                case.write_shapes(),
                case.write_arguments,
                _written_bytes,
                lambda case=case: (*case.write_shapes()[:2], case.targets()),
                tolerance=0.0,
                in_place=True,
            )
        )
    return found


def _stored_bytes(arguments: Arguments) -> int:
    """Every token of a path that is stored, read and written once."""
    cache, _, index, start, count = arguments
    room = np.asarray(start) + index.shape[1] <= jax.tree.leaves(cache)[0].shape[2]
    return _token_bytes(cache, int(np.where(room, count, 0).sum()))


def _written_bytes(arguments: Arguments) -> int:
    """Every token that is not skipped, read and written once."""
    cache, _, slots = arguments
    slots = np.asarray(slots)
    stored = (slots >= 0) & (slots < jax.tree.leaves(cache)[0].shape[2])
    return _token_bytes(cache, int(stored.sum()))


def _token_bytes(cache: Any, tokens: int) -> int:
    return 2 * tokens * sum(x.nbytes // (x.shape[0] * x.shape[2]) for x in jax.tree.leaves(cache))


def _specified(arguments: Arguments, cache: Any) -> Any:
    """Slots between the last token and the end of the path hold nothing in particular."""
    _, _, index, start, count = arguments
    place = jnp.arange(jax.tree.leaves(cache)[0].shape[2]) - start[:, None]
    junk = (place >= count[:, None]) & (place < index.shape[1])
    return jax.tree.map(lambda x: jnp.where(junk[:, None, :, None], 0, x).astype(x.dtype), cache)


OPERATIONS: dict[str, Callable[[bool], list[Entry]]] = {
    "span_attention": span_attention,
    "unmask": unmasking,
    "verify": verification,
    "commit": committing,
}
"""The entries of each operation, given whether they are to be quick ones."""
