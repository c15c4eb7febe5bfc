"""The requests that the battery asks of a decoder: one batch of rows, each with settings of its own.

Compiling is what costs time, and a batch of any settings is one program. So a setting is a row, a run with other stops,
neighbours, parameters or keys has the same shapes, and whatever a check wants to vary is traced.
"""

import dataclasses
import enum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.model import Model, Order
from jaxdec.testing import oracles
from jaxdec.text import Automaton, PieceTokenizer


class Kind(enum.Enum):
    """What a decoder is asked for."""

    PROMPTS = "prompts continued"
    ORDERS = "gaps filled in random orders"
    CANVAS = "canvases filled"


VOCAB = 7
NEVER = VOCAB - 1
"""A token that no row may emit: as an end-of-sequence token, or in a stop sequence, it stops nothing."""

PIECES = (b"a", b"b", b"ab", b"ba", b"", b"aab", b"~")
"""What each token says: most texts can be said in several ways."""

WIDTH = 32
"""Tokens of the longest prompt, and of the largest budget that is asked for: a bucket of `generate`."""

RANKS = 128
"""More tokens than any row of the battery has room for."""

OFF: dict[str, Any] = dict(
    temperature=1.0,
    top_k=0,
    top_p=1.0,
    min_p=0.0,
    typical=1.0,
    epsilon=0.0,
    top_h=1.0,
    repetition_penalty=1.0,
    presence_penalty=0.0,
    frequency_penalty=0.0,
    logit_bias=np.zeros(VOCAB),
    banned=np.arange(VOCAB) == NEVER,
    no_repeat_ngram=0,
    bad_words=np.full((3, 3), -1),
    min_new_tokens=0,
    forced_prefix=np.full(4, -1),
)
"""Every setting of `Warp`, so that all batches are one program; each is off, but that one token never comes."""

READ_LEFT = ("no_repeat_ngram", "bad_words", "constraint")
"""Settings that only a decoder takes which continues prompts: the tokens to the left of each are known.

They are a fifth of the programs of such a decoder.
"""

TOP = 2
"""Most probable tokens that are recorded of every law."""


@dataclasses.dataclass(frozen=True)
class Letters(PieceTokenizer):
    """The vocabulary of the battery, as far as stop strings ask for it."""

    vocab_size: int = VOCAB
    eos: tuple[int, ...] = ()
    mask_token: int | None = None
    frame: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())

    @property
    def special_tokens(self) -> dict[str, int]:
        """None."""
        return {}

    def pieces(self) -> tuple[bytes, ...]:
        """What each token says."""
        return PIECES


NO_TOKEN_TWICE = Automaton.explore(
    -1, lambda last, token: None if token == last else token, lambda last: True, VOCAB
)
"""No new token comes twice in a row. A row may end anywhere, so that a token which ends rows changes no law before."""


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A row.

    Attributes:
      name: what is special about it.
      prompt: its tokens.
      budget: new tokens that it asks for.
      knobs: settings that differ from `OFF`.
      overfull: whether it asks for more than its buffers hold, after the request was checked.
      constraint: what its new tokens follow, where settings in `READ_LEFT` are asked for.
    """

    name: str
    prompt: tuple[int, ...]
    budget: int
    knobs: dict[str, Any] = dataclasses.field(default_factory=dict)
    overfull: bool = False
    constraint: Automaton | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """All settings of `Warp`, scalars and tables `[V]`."""
        return {**OFF, **self.knobs}

    def asked(self, read_left: bool = True) -> dict[str, Any]:
        """Its settings, with or without those in `READ_LEFT`."""
        left_out = () if read_left else READ_LEFT
        more = dict(constraint=self.constraint, budget=self.budget) if self.constraint else {}
        return {
            name: value for name, value in (self.settings | more).items() if name not in left_out
        }

    @property
    def greedy(self) -> bool:
        """Whether its temperature is 0."""
        return self.settings["temperature"] == 0

    @property
    def plain(self) -> bool:
        """Whether nothing but temperature and bans is set."""
        return self.knobs.keys() <= {"temperature", "banned"} and self.constraint is None


def _banned(*tokens: int) -> np.ndarray:
    return np.isin(np.arange(VOCAB), (*tokens, NEVER))


def _filled(shape: tuple[int, ...], *sequences: tuple[int, ...]) -> np.ndarray:
    """Sequences in the first places of an array, -1 elsewhere."""
    table = np.full(shape, -1)
    for row, sequence in zip(table.reshape(-1, shape[-1]), sequences, strict=False):
        row[: len(sequence)] = sequence
    return table


_WORDS = _filled((3, 3), (2,), (1, 4), (4, 0, 3))

CASES = (
    Case("greedy", (1, 2, 3, 4, 1, 2), 32, dict(temperature=0.0)),
    Case("greedy, of one token", (4,), 25, dict(temperature=0.0)),
    Case(
        "greedy, penalties",
        (5, 5, 2),
        20,
        dict(
            temperature=0.0,
            repetition_penalty=1.4,
            presence_penalty=0.3,
            frequency_penalty=0.2,
        ),
    ),
    Case(
        "greedy, bias and bans",
        (2, 0, 2, 0),
        23,
        dict(temperature=0.0, logit_bias=np.linspace(1, -1, VOCAB), banned=_banned(3)),
    ),
    Case("greedy, filters", (3, 1), 12, dict(temperature=0.0, top_k=2, top_p=0.5, min_p=0.3)),
    Case("greedy, one new token", (1, 0, 5), 1, dict(temperature=0.0)),
    Case("temperature 1", (0,), 25),
    Case("temperature 0.5", (1, 2, 3, 1, 2, 3), 30, dict(temperature=0.5)),
    Case("temperature 1.7, top-p 0.95", (3, 3, 3), 30, dict(temperature=1.7, top_p=0.95)),
    Case("top-p 0.6", (5, 4, 5, 4), 12, dict(top_p=0.6)),
    Case("top-k 2", (2, 4), 17, dict(top_k=2)),
    Case("top-k 1", (4, 1), 9, dict(top_k=1)),
    Case("min-p 0.3", (0, 1, 0), 21, dict(temperature=1.3, min_p=0.3)),
    Case("typical 0.6", (3, 0), 19, dict(typical=0.6)),
    Case("epsilon 0.1", (4, 3), 16, dict(epsilon=0.1)),
    Case("top-h 0.5", (5, 0), 18, dict(top_h=0.5)),
    Case(
        "all filters",
        (5, 1, 3, 5, 1),
        24,
        dict(temperature=0.7, top_k=4, top_p=0.9, min_p=0.02, typical=0.95, epsilon=0.01),
    ),
    Case("repetition 1.5", (2, 2, 1, 4), 22, dict(temperature=0.9, repetition_penalty=1.5)),
    Case(
        "presence 0.6, frequency 0.4",
        (1, 1),
        28,
        dict(presence_penalty=0.6, frequency_penalty=0.4),
    ),
    Case(
        "bias and bans", (0, 2), 20, dict(logit_bias=np.linspace(-1, 1, VOCAB), banned=_banned(2))
    ),
    Case("the longest prompt", (1, 2, 3, 4, 5, 0, 3, 3) * 4, 32),
    Case("no new token", (2, 3, 4), 0),
    Case("one new token", (2, 3, 4, 5), 1),
    Case("two new tokens", (0, 4), 2),
    Case("one token alone is allowed", (1, 5), 14, dict(banned=_banned(0, 1, 3, 4, 5))),
    Case("more than fits", (3, 4, 3, 4), 32, overfull=True),
    Case("no 3-gram twice", (2, 1, 2, 1, 2), 30, dict(temperature=0.6, no_repeat_ngram=3)),
    Case("greedy, no 4-gram twice", (1, 2, 3), 26, dict(temperature=0.0, no_repeat_ngram=4)),
    Case("bad words", (4, 0, 1), 24, dict(bad_words=_WORDS, frequency_penalty=0.3)),
    Case("greedy, bad words", (5, 1), 18, dict(temperature=0.0, bad_words=_WORDS)),
    Case(
        "given tokens",
        (0, 3),
        11,
        dict(top_p=0.7, banned=_banned(3), forced_prefix=_filled((4,), (5, 3, -1, 3))),
    ),
    Case(
        "greedy, given tokens",
        (4,),
        16,
        dict(temperature=0.0, forced_prefix=_filled((4,), (1, 1, 5, 0))),
    ),
    Case("constrained", (2, 1), 24, dict(top_p=0.9), constraint=NO_TOKEN_TWICE),
    Case("greedy, constrained", (5,), 19, dict(temperature=0.0), constraint=NO_TOKEN_TWICE),
)

FILLERS = (
    Case("filler that has ended", (3,), 0, dict(temperature=0.0)),
    Case("filler that runs on", (5, 2, 0, 1, 5), 32, dict(temperature=1.4, top_p=0.9)),
)
"""Neighbours for checks that a row knows nothing of them."""


def pair(seed: int = 0, weight: float = 0.35) -> tuple[Model, dict[str, jax.Array]]:
    """A hash oracle and parameters for it (`target`) and for one that resembles it (`draft`)."""
    model, target = oracles.hash_oracle(VOCAB, seed=seed, scale=1.5)
    _, other = oracles.hash_oracle(VOCAB, seed=seed + 1, scale=1.5)
    return model, {"target": target, "draft": oracles.blend(target, other, weight)}


def broken(table: jax.Array) -> jax.Array:
    """A hash oracle's parameters some of whose laws are not finite."""
    return table.at[::23].set(np.nan)


def places(case: Case, size: int) -> list[int]:
    """The position of each rank `[size]` of a case: a random visible set in ascending order, then the rest."""
    visible = len(case.prompt)
    seed = (*case.prompt, case.budget)
    found = np.random.default_rng(seed).permutation(size)
    return [*sorted(found[:visible].tolist()), *found[visible:].tolist()]


def order(cases: list[Case], capacity: int) -> Order:
    """An order of generation for each row, `[B, capacity]` ranks; rows that are overfull have no end in sight."""
    lengths = np.array([len(case.prompt) for case in cases])
    sizes = lengths + np.array([case.budget for case in cases])
    table = np.zeros((len(cases), capacity), np.int32)
    for i, case in enumerate(cases):
        if case.overfull:
            sizes[i] = RANKS
            table[i] = places(case, RANKS)[:capacity]
        else:
            table[i, : sizes[i]] = places(case, sizes[i])
    whole = lambda x: jnp.asarray(x, jnp.int32)
    return Order(whole(table), whole(lengths), whole(sizes))


def arrays(cases: list[Case], width: int = WIDTH, padding: int = 0) -> dict[str, Any]:
    """The arguments of `generate` for a batch; prompts `[B, width]` are filled up with a token."""
    prompt = np.full((len(cases), width), padding)
    for row, case in zip(prompt, cases, strict=True):
        row[: len(case.prompt)] = case.prompt
    return dict(
        prompt=prompt,
        lengths=np.array([len(case.prompt) for case in cases]),
        max_new_tokens=np.array([case.budget for case in cases]),
        constraint=[case.constraint for case in cases],
        **{name: np.stack([np.asarray(c.settings[name]) for c in cases]) for name in OFF},
    )
