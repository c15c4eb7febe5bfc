"""The algorithm contract: what a decoder is.

    Decoder: init(params, request)      -> state
             step(params, state, rng)   -> (state, info)
    run(decoder, params, state, rng)    one `lax.while_loop`, jitted once, state donated
    stream(decoder, params, state, rng) the same step from Python

`params` are parameters by part, `{"target": ..., "draft": ...}` (`jaxdec.decoding.part`), never one model's alone.

A state holds what the next step reads; an info says what a step did. A row that has ended takes part in every step as a
no-op, so that no row ever waits for another.

A row takes `steps_per_token` steps a token of its buffer at most, then it ends with `Status.STALLED`: no decoder hangs.

Several hypotheses of a prompt stand in adjacent rows. A step that lets rows take the past of others of their prompt
calls `take_rows` on its own state before it commits, and says so in `Info.source`; the loop moves the record alike.
Once all rows of a prompt have ended they stay, so that a prompt does not depend on how long its neighbours run.
A state may set B more hypotheses aside, which no step runs: its `shelf`, `Rows` too; rows may take what lies on it.

Legend: B rows, W tokens that a step commits at most.
"""

import enum
from typing import Protocol, TypeVar

import jax

from jaxdec.decoding.record import Info
from jaxdec.decoding.request import Request
from jaxdec.decoding.rows import Rows
from jaxdec.model import Model, Params


class Exactness(enum.Enum):
    """What a decoder promises about its output, relative to plain decoding of its target.

    The promise is one of exact arithmetic: it holds bit for bit where the target gives a token the same logits however
    many others are scored with it, as the oracles of `jaxdec.testing` do. A network's forward over another number of
    tokens rounds in another order. In float32 its logits then differ by about 1e-6 of their size, and in bfloat16, or
    with matrix products in it, by about 1e-2; two tokens whose (perturbed) log-probabilities are as close as that may
    change places, and the rows go different ways from there on. So "the same tokens" means: up to the first such tie,
    which float32 practically never meets and which of some hundred tokens in bfloat16 one may be. Laws change by as
    little as their logits, never by an acceptance rule.
    """

    TOKEN_IDENTICAL = "token-identical"
    """The same tokens as plain decoding with the same key."""
    DISTRIBUTION_IDENTICAL = "distribution-identical"
    """The same law over sequences."""
    APPROXIMATE = "approximate"
    """Approaches the target's law as a knob is turned."""
    HEURISTIC = "heuristic"
    """No statement about the target's law."""


class DecoderState(Protocol):
    """What the loop needs of a state."""

    @property
    def rows(self) -> Rows:
        """The rows: a node of the state itself, so that the loop can end one."""
        ...


State = TypeVar("State", bound=DecoderState)


class Decoder(Protocol[State]):
    """A decoding algorithm: two pure functions that compare by value, since they are static parts of a program."""

    @property
    def exactness(self) -> Exactness:
        """What the decoder promises."""
        ...

    @property
    def width(self) -> int:
        """W, the most tokens that a step commits."""
        ...

    @property
    def model(self) -> Model:
        """The target."""
        ...

    # Six more are optional: `knobs`, a dict of `Knob` by name, the traced settings that the decoder takes beside
    # those of `Warp`; `parts`, its `Part`s, which may have parameters beside the target's; `fills_canvas`, whether it
    # fills a canvas of masks, so that its model need not predict next tokens; `steps_per_token`, the most steps
    # that it ever needs for a token, 1 if not given; `steps_alone`, False where the steps that a row takes to its
    # tokens, and how much of each was drafted, depend on the rows beside it; and `draws`, False where no key matters.

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError`, before anything is traced, for what this decoder cannot do."""
        ...

    def init(self, params: Params, request: Request) -> State:
        """Reads the prompts."""
        ...

    def step(self, params: Params, state: State, rng: jax.Array) -> tuple[State, Info]:
        """Takes one step of every row; `rng` is one key a row, `[B]`."""
        ...
