"""What decoders rely on of a model, checked on any model: `check_model(model, params)`.

Every check runs the forward twice in ways that must agree, and compares logits within a tolerance. Rows are read by
causal spans: models of any subset are asked for the token at the next rank, canvas models for that at each place.

Legend: B rows, T new tokens, V vocabulary.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import visibility
from jaxdec.model import Inputs, Model, Order, Params, score, unshifted

BATCH, LENGTH = 3, 12
TREE = np.array([-1, 0, 0, 1, 1, 2, -1])
"""Parents of the nodes that are scored at once; two roots."""


_score = jax.jit(score, static_argnums=0)
_commit = jax.jit(lambda cache, *path: cache.commit(*path))


@dataclasses.dataclass(frozen=True)
class _Subject:
    """The model under test on tokens `[B, L]`, jitted.

    Attributes:
      model: under test.
      params: its parameters.
      tokens: int32 `[B, L]`, random.
      tolerance: of a difference of logits, relative to 1 and the largest of them.
    """

    model: Model
    params: Params
    tokens: jax.Array
    tolerance: float

    @property
    def length(self) -> int:
        """L."""
        return self.tokens.shape[1]

    def output(self, inputs: Inputs, cache: Any = None, at: Any = None) -> Any:
        """The forward, with a query for the next rank after each token, or those `at`, where the model is asked."""
        batch = inputs.tokens.shape[0]
        order = None
        if self.model.any_subset:
            places = jnp.broadcast_to(jnp.arange(self.length + 1), (batch, self.length + 1))
            ones = jnp.ones((batch,), jnp.int32)
            whole = self.length + 1
            order = Order(places.astype(jnp.int32), ones, whole * ones, whole)
        return _score(self.model, self.params, inputs, cache, order, at=at)

    def causal(self, start: int, stop: int, valid: Any = None, tokens: Any = None) -> Inputs:
        """Tokens from `start` to `stop` of each row."""
        tokens = self.tokens if tokens is None else tokens
        return Inputs.causal(tokens[:, start:stop], start, valid)

    def committed(self, counts: np.ndarray, capacity: int | None = None) -> Any:
        """A cache that holds the first `counts [B]` tokens of each row."""
        inputs = self.causal(0, self.length)
        cache = self.model.init_cache(len(counts), capacity or self.length + 2)
        index = jnp.broadcast_to(jnp.arange(self.length), self.tokens.shape)
        entries = self.output(inputs).entries
        return _commit(cache, entries, index, jnp.asarray(counts, jnp.int32), inputs.key_spans)

    def same(self, what: str, found: Any, expected: Any, places: str = "row, token") -> None:
        """Raises `AssertionError` for logits `[..., V]` that differ, naming the first place and the hint `what`."""
        found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
        banned = np.isneginf(found) & np.isneginf(expected)
        gap = np.abs(np.where(banned, 0, found) - np.where(banned, 0, expected))
        finite = expected[np.isfinite(expected)]
        limit = self.tolerance * (1 + (np.abs(finite).max() if finite.size else 0))
        wrong = ~(gap <= limit).all(-1)  # NaN is wrong as well
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise AssertionError(
                f"{what}: at ({places}) {at} logits differ by {gap[at].max():.3g}, where {limit:.3g} is allowed"
            )


def check_model(model: Model, params: Params, *, seed: int = 0, tolerance: float = 1e-3) -> None:
    """Checks that a model keeps the contract that all decoders rely on (`jaxdec.model.Model`).

    Shapes and types of what it returns; the cache against scoring the whole sequence; nodes of a tree against the
    sequences that they end; that padding, neighbours in the batch and positions past the end change nothing; that the
    last position it claims is one. A model that passes can be given to every decoder of its kind.

    Args:
      model: causal, of any subset, or of a canvas.
      params: its parameters; random ones show most mistakes, as long as logits depend on all that is seen.
      seed: of the tokens.
      tolerance: of differences of logits, relative to 1 and the largest logit; for low precision take more.

    Raises:
      AssertionError: naming the property, the first place where it fails, and what to look at.
    """
    model = unshifted(model)  # single tokens have no row before them
    size = model.vocab_size - (model.mask_token is not None)
    length = LENGTH if model.max_length is None else min(LENGTH, model.max_length)
    tokens = np.random.default_rng(seed).integers(0, size, (BATCH, length))
    subject = _Subject(model, params, jnp.asarray(tokens, jnp.int32), tolerance)
    for check in CHECKS:
        check(subject)


def _check_comparable(subject: _Subject) -> None:
    model = subject.model
    try:
        same = hash(model) == hash(dataclasses.replace(model)) and model == dataclasses.replace(
            model
        )
    except TypeError as error:
        raise AssertionError(
            f"the model cannot be hashed ({error}): forward and init_cache must be functions, or frozen dataclasses"
        ) from None
    assert same, "the model does not equal its own copy: every call would compile anew"


def _check_output(subject: _Subject) -> None:
    output = subject.output(subject.causal(0, subject.length))
    want = (BATCH, subject.length, subject.model.vocab_size)
    assert output.logits.shape == want, (
        f"logits have shape {list(output.logits.shape)}, expected [B, T, V] = {list(want)}; vocab_size of the model is "
        f"{subject.model.vocab_size}"
    )
    assert output.logits.dtype == jnp.float32, (
        f"logits are {output.logits.dtype}, expected float32: cast them before they are returned"
    )
    assert output.hidden.shape[:2] == want[:2], (
        f"hidden states have shape {list(output.hidden.shape)}, expected [B, T, D] with B, T = {list(want[:2])}"
    )
    broken = np.isnan(np.asarray(output.logits)).any(-1)
    assert not broken.any(), (
        f"logits are NaN at (row, token) {tuple(np.argwhere(broken)[0].tolist())}"
    )


def _check_wanted(subject: _Subject) -> None:
    """Laws of some tokens alone, in an order of their own."""
    if not subject.model.picks:  # they are then taken out of those of all
        return
    at = jnp.broadcast_to(jnp.array([subject.length - 1, 0], jnp.int32), (BATCH, 2))
    inputs = subject.causal(0, subject.length)
    whole, found = subject.output(inputs), subject.output(inputs, at=at)
    assert found.hidden.shape[:2] == (BATCH, 2), (
        f"hidden states have shape {list(found.hidden.shape)} where those of 2 tokens are wanted: a model with picks "
        "gives what Inputs.at asks for alone"
    )
    subject.same(
        "laws at Inputs.at differ from those of all tokens", found.logits, whole.logits[:, at[0]]
    )


def _check_fresh_cache(subject: _Subject) -> None:
    room = subject.length + 2
    cache = subject.model.init_cache(BATCH, room)
    assert cache.capacity == room, f"init_cache(batch, {room}) has a capacity of {cache.capacity}"
    for path, leaf in jax.tree_util.tree_leaves_with_path(cache):
        assert leaf.shape[:1] == (BATCH,), (
            f"{jax.tree_util.keystr(path)} of the cache has shape {list(leaf.shape)}; the leading axis of every array "
            f"is the row ({BATCH})"
        )
    lengths = np.asarray(cache.length)
    assert lengths.tolist() == [0] * BATCH, f"a fresh cache has lengths {lengths.tolist()}"
    first = subject.causal(0, 1)
    subject.same(
        "an empty cache changes what is scored",
        subject.output(first, cache).logits,
        subject.output(subject.causal(0, subject.length)).logits[:, :1],
    )


def _check_cached(subject: _Subject) -> None:
    """Rows of unequal length: each continues at its own."""
    length = subject.length
    counts = np.clip(np.array([length - 2, 1, length // 2]), 1, length - 1)
    cache = subject.committed(counts)
    held = np.asarray(cache.length)
    assert held.tolist() == counts.tolist(), f"{counts.tolist()} committed, lengths {held.tolist()}"
    at = jnp.asarray(counts)[:, None] + jnp.arange(1)
    last = Inputs.causal(jnp.take_along_axis(subject.tokens, at, axis=1), jnp.asarray(counts))
    whole = subject.output(subject.causal(0, length)).logits
    subject.same(
        "scoring a token over a cache differs from scoring the whole sequence (are positions those of the inputs, and "
        "are the entries what attention reads?)",
        subject.output(last, cache).logits,
        jnp.take_along_axis(whole, at[..., None], axis=1),
    )


def _check_tree(subject: _Subject) -> None:
    """Each node against the sequence of its path."""
    room = subject.length - int(visibility.ancestors(jnp.asarray(TREE)[None]).sum(-1).max())
    before = max(0, min(3, room))
    count = np.full(BATCH, before)
    cache = subject.committed(count) if before else None
    drafts = jnp.roll(subject.tokens, 5, axis=1)[:, : len(TREE)]
    nodes = drafts.shape[1]
    parents = jnp.asarray(TREE[:nodes])
    spans = visibility.tree(parents, jnp.asarray(count))
    depths = visibility.ancestors(parents[None]).sum(-1) - 1
    positions = jnp.broadcast_to(before + depths, drafts.shape).astype(jnp.int32)
    found = subject.output(Inputs(drafts, positions, *spans), cache).logits
    for node in range(nodes):
        path = [node]
        while TREE[path[0]] >= 0:
            path.insert(0, int(TREE[path[0]]))
        text = jnp.concatenate([subject.tokens[:, :before], drafts[:, np.array(path)]], axis=1)
        end = text.shape[1]
        text = jnp.pad(text, ((0, 0), (0, subject.length - end)))
        alone = subject.output(subject.causal(0, subject.length, tokens=text)).logits[:, end - 1]
        subject.same(
            f"node {node} of a tree differs from the sequence of its path {path} (does attention go by spans alone, "
            "not by the order of the inputs?)",
            found[:, node],
            alone,
            "row",
        )


def _check_padding(subject: _Subject) -> None:
    """Padded tokens, empty slots, and tokens committed by nobody."""
    length = subject.length
    valid = np.arange(length) % 3 != np.arange(BATCH)[:, None]
    other = jnp.where(valid, subject.tokens, jnp.roll(subject.tokens, 1, axis=1))
    read = lambda tokens: (
        subject.output(subject.causal(0, length, jnp.asarray(valid), tokens)).logits
    )
    hint = "padding is seen: keys whose span is visibility.EMPTY must be seen by nobody"
    subject.same(hint, read(other)[valid], read(subject.tokens)[valid], "token")
    counts = np.array([0, 1, length - 1])
    one, two = subject.committed(counts), subject.committed(counts, 2 * length + 5)
    last = Inputs.causal(subject.tokens[:, -1:], jnp.asarray(counts))
    subject.same(
        "the number of empty slots changes what is scored: they must be seen by nobody",
        subject.output(last, two).logits,
        subject.output(last, one).logits,
    )


def _check_rows(subject: _Subject) -> None:
    counts = np.array([2, 1, max(subject.length - 2, 1)]).clip(1, subject.length - 1)
    cache = subject.committed(counts)
    last = Inputs.causal(subject.tokens[:, -1:], jnp.asarray(counts))
    whole = subject.output(last, cache).logits
    for row in range(BATCH):
        one = jax.tree.map(lambda x, row=row: x[row : row + 1], (last, cache))
        subject.same(
            f"row {row} depends on its neighbours in the batch",
            subject.output(*one).logits[0],
            whole[row],
            "token",
        )


def _check_end(subject: _Subject) -> None:
    """The last position is one, and what lies past it harms nobody."""
    end = subject.model.max_length
    if end is None or subject.model.any_subset:  # an order has no places past its end
        return
    last = end - 1 - jnp.arange(2)[::-1] if end > 1 else jnp.zeros(1, jnp.int32)
    width = last.shape[0]
    positions = jnp.broadcast_to(last, (BATCH, width)).astype(jnp.int32)
    tokens = subject.tokens[:, :width]
    inputs = Inputs(tokens, positions, *visibility.causal(positions))
    # A cache with room for as much, for models that lay out whole rows.
    cache = subject.model.init_cache(BATCH, min(end, 4096))
    legal = subject.output(inputs, cache).logits
    assert not np.isnan(np.asarray(legal)).any(), (
        f"logits at position {end - 1} are NaN, but the model says max_length {end}: is its table of positions shorter?"
    )
    past = jnp.concatenate([positions, positions + width], axis=1)
    tokens = jnp.concatenate([tokens, tokens], axis=1)
    found = subject.output(Inputs(tokens, past, *visibility.causal(past)), cache).logits
    subject.same(f"tokens past the end of {end} change those before it", found[:, :width], legal)


CHECKS: tuple[Callable[[_Subject], None], ...] = (
    _check_comparable,
    _check_output,
    _check_wanted,
    _check_fresh_cache,
    _check_rows,
    _check_padding,
    _check_cached,
    _check_tree,
    _check_end,
)
