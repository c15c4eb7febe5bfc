"""Drafters on targets for which they can be perfect: what they draft must then be accepted."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import decoding, generation
from jaxdec.cache import KVEntries, LayerEntries
from jaxdec.model import Model, Output
from jaxdec.sampling import row_keys
from jaxdec.speculative import Speculative, adaptive, drafters, speculative
from jaxdec.testing import oracles

Kind = Literal["self", "sequence", "copy", "count"]
PERIOD = (0, 1, 2, 0, 2, 1)
"""Of the sequence that repeats: what follows a token depends on the one before it too."""


@dataclasses.dataclass(frozen=True)
class _Sequence:
    """A forward that knows what stands at each position, whatever it reads."""

    vocab_size: int

    def __call__(self, params: Any, inputs: Any, cache: Any = None) -> Output:
        wanted = inputs.positions + 1 if inputs.queries is None else inputs.queries.positions
        token = params[jnp.minimum(wanted, len(params) - 1)]
        logits = 50.0 * jax.nn.one_hot(token, self.vocab_size)
        stored = inputs.tokens[:, None, :, None].astype(jnp.float32)
        entries = KVEntries((LayerEntries(stored, stored),), inputs.positions)
        return Output(logits, logits, (), entries)


def sequence_oracle(text: Sequence[int], vocab_size: int) -> tuple[Model, jax.Array]:
    """A model that goes on with one text, by position, whatever was written before."""
    model, _ = oracles.hash_oracle(vocab_size)
    forward = _Sequence(vocab_size)
    return dataclasses.replace(model, forward=forward), jnp.asarray(text, jnp.int32)


def perfect_target(kind: Kind) -> tuple[Model, dict[str, Any], np.ndarray]:
    """A target for which drafters of a kind are perfect, its params, and prompts `[B, P]`.

    self      a hash oracle, and a draft model that is the target
    sequence  a text of period 6: for those who look up what followed, or guess by position
    copy      a text that repeats its prompt but for one token: for those who copy
    count     a text that counts up: for those who read what the target predicts
    """
    if kind == "self":
        model, params = oracles.hash_oracle(7, scale=1.5)
        prompts = np.array([[1, 2, 3, 4, 1], [5, 6, 5, 0, 0]])
        return model, {"target": params, "draft": params}, prompts
    if kind == "copy":
        text = [*range(12), *range(12)]
        text[12 + 5] = 15
        model, params = sequence_oracle(text, 16)
        return model, {"target": params}, np.array([text[:12]] * 2)
    if kind == "count":
        text = [*range(5)] * 12
        model, params = sequence_oracle(text, 5)
        return model, {"target": params}, np.array([text[:3]] * 2)
    text = list(PERIOD) * 12
    model, params = sequence_oracle(text, 3)
    return model, {"target": params}, np.array([text[:2]] * 2)


def check_perfect_drafts(
    make: Callable[[Model], Any], kind: Kind, tokens_a_step: float, budget: int = 40
) -> None:
    """On a target for which a drafter is perfect, a step commits as many tokens as the drafter can give.

    Args:
      make: `model -> decoder`, or `(decoder, params)` with the params of further parts; for `self` the model drafts
        for itself, with the params `draft`.
      kind: see `perfect_target`.
      tokens_a_step: on average at least, the steps in which the drafter learns included.
      budget: new tokens.
    """
    model, params, prompts = perfect_target(kind)
    made = make(model)
    decoder, more = made if isinstance(made, tuple) else (made, {})
    params = {**params, **more}
    budget = 12 if kind == "copy" else budget
    temperature = np.array([0.0, 0.8])
    result = generation.generate(
        decoder,
        params,
        prompts,
        rng=jax.random.key(3),
        max_new_tokens=budget,
        eos=(),
        temperature=temperature,
    )
    if kind != "self":
        text = np.asarray(params["target"])[: prompts.shape[1] + budget]
        for row in range(2):
            np.testing.assert_array_equal(np.asarray(result.tokens)[row, : len(text)], text)
    for row, steps in enumerate(np.asarray(result.steps).max(1) + 1):
        rate = budget / steps
        assert rate >= tokens_a_step - 1e-9, (
            f"row {row}: {rate:.2f} tokens a step, not {tokens_a_step}"
        )


def check_drafts(
    make: Callable[[Model], Any],
    *,
    allowed: Sequence[int] | None = None,
    from_text: bool = False,
    steps: int = 6,
) -> None:
    """What a drafter proposes is a tree, whose nodes have the laws that they may state; or what the text holds.

    Args:
      make: `model -> Speculative`, or `(Speculative, params)`, from a hash oracle that also drafts.
      allowed: tokens that may be proposed; all if not given.
      from_text: whether each path, from the pending token on, must stand in the row's own text.
      steps: of decoding, each of whose proposals is looked at.
    """
    model, target = oracles.hash_oracle(5, scale=2.0)
    _, other = oracles.hash_oracle(5, seed=1, scale=2.0)
    made = make(model)
    decoder, more = made if isinstance(made, tuple) else (made, {})
    assert isinstance(decoder, Speculative)
    params = {"target": target, "draft": oracles.blend(target, other, 0.5), **more}
    prompts = np.array([[1, 2, 1, 2, 3, 1, 2], [4, 4, 0, 1, 0, 1, 0]])
    request = generation.prepare(
        decoder, params, prompts, max_new_tokens=60, eos=(), temperature=np.array([0.6, 0.0])
    )
    keys = row_keys(jax.random.key(1), 2)
    state = decoding.init(decoder, params, request)
    propose = jax.jit(
        lambda state: decoder.drafter.propose(
            decoder.drafter.own(params), state.draft, decoder.context(state, keys)
        )[0]
    )
    step = jax.jit(lambda state: decoder.step(params, state, keys)[0])
    for number in range(steps):
        tree = jax.tree.map(np.asarray, propose(state))
        for row in range(2):
            length = int(state.rows.length[row])
            text = np.asarray(state.rows.tokens)[row, :length].tolist()
            where = f"step {number}, row {row}"
            _check_tree(tree, row, text, decoder.drafter.independent, where)
            _check_paths(tree, row, text, allowed, from_text, where)
        state = step(state)


def _check_tree(tree, row: int, text: list[int], independent: bool, where: str) -> None:
    held = set()
    for node in np.flatnonzero(tree.mask[row]).tolist():
        parent, token = int(tree.parents[row, node]), int(tree.tokens[row, node])
        assert -1 <= parent < node, f"{where}: node {node} has parent {parent}"
        assert parent < 0 or tree.mask[row, parent], f"{where}: node {node} hangs off none"
        assert independent or (parent, token) not in held, f"{where}: two siblings are {token}"
        held.add((parent, token))
        if tree.q is not None:
            stated = np.exp(tree.q[row, node])
            assert abs(stated.sum() - 1) < 1e-4, f"{where}: node {node} states no law"
            assert stated[token] > 0, f"{where}: node {node} cannot have been drawn from its law"


def _check_paths(tree, row, text, allowed, from_text, where) -> None:
    paths: dict[int, list[int]] = {-1: text[-1:]}
    for node in np.flatnonzero(tree.mask[row]).tolist():
        path = [*paths[int(tree.parents[row, node])], int(tree.tokens[row, node])]
        paths[node] = path
        if allowed is not None:
            assert path[-1] in allowed, f"{where}: {path[-1]} is proposed"
        if from_text:
            starts = range(len(text) - len(path) + 1)
            stands = any(text[i : i + len(path)] == path for i in starts)
            assert stands, f"{where}: {path} is proposed, which stands nowhere in the text"


def check_adaptive(make: Callable[[Model], Any] | None = None) -> None:
    """An adaptive length grows to the longest with perfect drafts, and falls to the shortest with hopeless ones.

    Args:
      make: `model -> decoder` with draft lengths of 1 and 4, whose draft model has the params `draft`.
    """
    if make is None:
        chain = lambda model, length: speculative(
            model, drafter=drafters.model(model, length=length)
        )
        make = lambda model: adaptive(lambda length: chain(model, length), (1, 4))
    model, params = oracles.hash_oracle(7, scale=1.5)
    for draft, most, least in ((params, 4.0, 3.0), (-params, 1.5, 1.0)):
        result = generation.generate(
            make(model),
            {"target": params, "draft": draft},
            np.array([[1, 2, 3]]),
            rng=jax.random.key(0),
            max_new_tokens=40,
            eos=(),
            temperature=0.0,
        )
        share = float(result.stats.proposed[0] / result.stats.target_forwards[0])
        assert least <= share <= most, f"{share:.2f} drafts a step, not {least} to {most}"
