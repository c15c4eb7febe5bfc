"""Drafters that are hostile: trees of any tokens and parents, with cycles, cost time and change no token.

The shared-noise walk is exact for any draft whatever, so with a hostile drafter it is plain decoding, bit for bit.
Trees that are not of the promised type, shape or depth are refused while the step is traced.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

import jaxdec
from jaxdec.speculative import Drafter, DraftTree, RankTree
from tests.fuzz import generating, subjects
from tests.fuzz.subjects import V
from tests.fuzz.surface import REFUSED, TAKEN, Surface, check_message, mixed, refused
from tests.fuzz.values import BATCH

NODES, DEPTH = 5, 3


@dataclasses.dataclass(frozen=True)
class Hostile(Drafter):
    """Proposes what stands in its parameters, whatever it is."""

    depth: int = DEPTH
    name: str = "hostile"

    @property
    def nodes(self) -> int:
        return NODES

    def propose(self, params: Any, state: Any, context: Any) -> tuple[DraftTree, Any]:
        at = context.rows.rounds % params["tokens"].shape[0]
        pick = lambda table: jnp.broadcast_to(table[at], (len(at), NODES))
        tree = DraftTree(
            pick(params["tokens"]), pick(params["parents"]), pick(params["mask"]), None, None, DEPTH
        )
        return tree, None


@dataclasses.dataclass(frozen=True)
class Broken(Drafter):
    """Promises one tree and proposes another."""

    what: str
    depth: int = DEPTH

    @property
    def nodes(self) -> int:
        return NODES

    def propose(self, params: Any, state: Any, context: Any) -> tuple[DraftTree, Any]:
        batch = len(context.rows.length)
        whole = jnp.zeros((batch, NODES), jnp.int32)
        tree = DraftTree(whole, whole - 1, whole == 0, None, None, DEPTH)
        return dataclasses.replace(tree, **CHANGES[self.what](whole)), None


CHANGES: dict[str, Any] = {
    "float tokens": lambda x: {"tokens": x * 1.0},
    "few tokens": lambda x: {"tokens": x[:, 1:]},
    "tokens of one row": lambda x: {"tokens": x[0]},
    "no tokens": lambda x: {"tokens": None},
    "float parents": lambda x: {"parents": x - 1.0},
    "many parents": lambda x: {"parents": jnp.pad(x, ((0, 0), (0, 1)))},
    "no parents": lambda x: {"parents": None},
    "a mask of integers": lambda x: {"mask": x},
    "no mask": lambda x: {"mask": None},
    "laws of others": lambda x: {"q": jnp.zeros((*x.shape, V + 1))},
    "integer laws": lambda x: {"q": jnp.zeros((*x.shape, V), jnp.int32)},
    "laws of the target": lambda x: {"target_logits": jnp.zeros((x.shape[0], 1, V))},
    "a deeper tree": lambda x: {"depth": DEPTH + 1},
    "no depth": lambda x: {"depth": 0},
}


@functools.cache
def plain() -> Any:
    return jaxdec.autoregressive(subjects.MODEL)


@functools.cache
def hostile() -> Any:
    return jaxdec.speculative(subjects.MODEL, drafter=Hostile())


@dataclasses.dataclass(frozen=True)
class Trees:
    """What is proposed in turns, `[rounds, nodes]` each, and what is asked."""

    tokens: list
    parents: list
    mask: list
    temperature: float
    seeds: list


@dataclasses.dataclass(frozen=True)
class NotAsPromised:
    """A tree that is refused while it is traced."""

    what: str


@dataclasses.dataclass(frozen=True)
class Shape:
    """Arguments of a tree of fixed shape."""

    method: str
    arguments: Any


ROUNDS = 3
table = lambda each: st.lists(
    st.lists(each, min_size=NODES, max_size=NODES), min_size=ROUNDS, max_size=ROUNDS
)
tokens = st.integers(0, V - 1) | st.sampled_from([-1, V, 2**31 - 1, -(2**31)])
parents = st.integers(-1, NODES - 1) | st.sampled_from([-2, NODES, 2**31 - 1, -(2**31)])
trees = st.builds(
    Trees,
    table(tokens),
    table(parents),
    table(st.booleans()),
    st.sampled_from([0.0, 0.7, 1.0]),
    generating.rows(generating.seed),
)
tree_like = st.lists(st.integers(-3, 9), max_size=9)
shapes = st.one_of(
    st.builds(Shape, st.just("of"), tree_like),
    st.builds(Shape, st.just("branching"), st.lists(st.integers(-2, 4), max_size=3)),
    st.builds(Shape, st.just("chain"), st.integers(-5, 9)),
    st.builds(
        Shape,
        st.just("best"),
        st.tuples(st.integers(-2, 6), st.integers(-2, 40), st.lists(st.floats(0, 1), max_size=4)),
    ),
)


def decode(decoder: Any, given: Trees) -> Any:
    whole = {
        "tokens": np.array(given.tokens, np.int32),
        "parents": np.array(given.parents, np.int32),
        "mask": np.array(given.mask),
    }
    params = {"target": subjects.PARAMS["target"], "hostile": whole}
    return jaxdec.generate(
        decoder, params, generating.PLAIN["prompt"], rng=given.seeds, temperature=given.temperature,
        max_new_tokens=10, eos=(),
    )  # fmt: skip


def attempt(given: Trees | NotAsPromised | Shape) -> str:
    if isinstance(given, NotAsPromised):
        decoder = jaxdec.speculative(subjects.MODEL, drafter=Broken(given.what))
        request = jaxdec.prepare(decoder, subjects.PARAMS, generating.PLAIN["prompt"])
        keys = jax.random.split(jax.random.key(0), BATCH)
        step = lambda: decoder.step(subjects.PARAMS, decoder.init(subjects.PARAMS, request), keys)
        return refused(lambda: jax.eval_shape(step), "Broken", inferred=True)
    if isinstance(given, Shape):
        return fixed(given)
    found, expected = decode(hostile(), given), decode(plain(), given)
    for name in ("tokens", "lengths", "codes", "log_probs"):
        one, other = (np.asarray(getattr(x, name)) for x in (found, expected))
        width = None if one.ndim < 2 else min(one.shape[1], other.shape[1])
        one, other = one[..., :width], other[..., :width]
        near = (
            name == "log_probs"
        )  # of laws by programs of another shape: the last digit may differ
        same = np.allclose(one, other, rtol=0, atol=1e-5) if near else np.array_equal(one, other)
        assert same, f"{name} are {one.tolist()}, those of plain decoding {other.tolist()}"
    return TAKEN


def fixed(given: Shape) -> str:
    """A fixed tree has parents before children, and the depths and ranks that follow from them, or is refused."""
    make = getattr(RankTree, given.method)
    arguments = given.arguments if given.method == "best" else (given.arguments,)
    try:
        tree = make(*arguments)
    except ValueError as error:
        check_message(error)
        return REFUSED
    assert all(-1 <= parent < node for node, parent in enumerate(tree.parents)), tree
    for node, parent in enumerate(tree.parents):
        assert tree.depths[node] == (1 if parent < 0 else tree.depths[parent] + 1), tree
    return TAKEN


def inputs() -> st.SearchStrategy:
    broken = st.sampled_from(sorted(CHANGES)).map(NotAsPromised)
    return mixed((10, trees), (9, shapes), (1, broken))


SURFACE = Surface(
    name="trees",
    about="drafters that propose any tokens and parents, cycles among them, against plain decoding; fixed shapes",
    inputs=inputs(),
    attempt=attempt,
    short=60,
    slow=600,
    long=10_000,
)
