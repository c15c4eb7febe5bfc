"""The algorithm contract: decoders, the one loop that runs them, and what happens to committed tokens.

    Decoder: init(params, request)      -> state
             step(params, state, rng)   -> (state, info)
    run(decoder, params, state, rng)    one `lax.while_loop`, jitted once, state donated
    stream(decoder, params, state, rng) the same step from Python

A state holds what the next step reads; an info says what a step did. A row that has ended takes part in every step as a
no-op, so that no row ever waits for, or is changed by, another.

Legend: B rows, P prompt width, L buffer width, W tokens that a step commits at most, V vocabulary.
"""

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import visibility
from jaxdec.model import Model, Output, Params
from jaxdec.order import Order, prompt_inputs
from jaxdec.sampling import History, Warp, row_keys


class Status(enum.IntEnum):
    """Why a row ended, or that it has not."""

    RUNNING = 0
    EOS = 1
    """An end-of-sequence token was emitted (and kept)."""
    STOP_SEQUENCE = 2
    """A stop sequence was completed (and kept)."""
    LENGTH = 3
    """`max_new_tokens` were emitted."""
    CACHE_FULL = 4
    """The next step would not fit into the row's buffers."""
    NONFINITE = 5
    """The model returned logits that define no law; nothing was emitted from them."""


class Exactness(enum.Enum):
    """What a decoder promises about its output, relative to plain decoding of its target."""

    TOKEN_IDENTICAL = "token-identical"
    """The same tokens as plain decoding with the same key."""
    DISTRIBUTION_IDENTICAL = "distribution-identical"
    """The same law over sequences."""
    APPROXIMATE = "approximate"
    """Approaches the target's law as a knob is turned."""
    HEURISTIC = "heuristic"
    """No statement about the target's law."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Stops:
    """Token sequences that end a row.

    Attributes:
      eos: int32 `[E]`, tokens that end a row by themselves.
      sequences: int32 `[S, K]`, right-aligned: the last token of each is in the last column.
      lengths: int32 `[S]`, tokens in each sequence.
    """

    eos: jax.Array
    sequences: jax.Array
    lengths: jax.Array

    @classmethod
    def create(cls, eos=(), sequences=()) -> "Stops":
        """From Python integers: `eos` tokens, and `sequences` of tokens.

        Raises:
          ValueError: if a sequence is empty.
        """
        sequences = [[int(t) for t in np.asarray(s).reshape(-1)] for s in sequences]
        for i, sequence in enumerate(sequences):
            if not sequence:
                raise ValueError(f"stop sequence {i} is empty")
        width = max(map(len, sequences), default=0)
        table = np.zeros((len(sequences), width), np.int32)
        for row, sequence in zip(table, sequences, strict=True):
            row[width - len(sequence) :] = sequence
        return cls(
            eos=jnp.asarray(list(eos), jnp.int32).reshape(-1),
            sequences=jnp.asarray(table),
            lengths=jnp.asarray([len(s) for s in sequences], jnp.int32),
        )

    def completed(self, before: jax.Array, fresh: jax.Array, chunk: jax.Array) -> jax.Array:
        """Where a stop sequence is completed inside a chunk.

        Args:
          before: int32 `[B, K - 1]`, the tokens that precede the chunk.
          fresh: int32 `[B]`, how many of those were generated; a match never reaches into the prompt.
          chunk: int32 `[B, W]`.

        Returns:
          bool `[B, W]`: true at the last token of a match.
        """
        stops, width = self.sequences.shape
        if not stops:
            return jnp.zeros(chunk.shape, bool)
        joined = jnp.concatenate([before, chunk], axis=1)
        ends = jnp.arange(chunk.shape[1])
        windows = joined[:, ends[:, None] + jnp.arange(width)]  # [B, W, K]
        unused = jnp.arange(width) < (width - self.lengths)[:, None]  # [S, K]
        equal = (windows[:, :, None] == self.sequences) | unused
        inside = self.lengths <= fresh[:, None, None] + ends[:, None] + 1
        return (equal.all(-1) & inside).any(-1)


@dataclasses.dataclass(frozen=True)
class Knob:
    """A traced setting that a decoder declares under a name in its `knobs`; `generate` takes it by that name.

    Attributes:
      default: for requests that do not set it.
      low: the least value.
      high: the largest one.
      integer: whether it is an int32 rather than a float32.
    """

    default: float
    low: float = -np.inf
    high: float = np.inf
    integer: bool = False

    def checked(self, name: str, value: Any, batch: int) -> jax.Array:
        """One value a row, `[batch]`.

        Raises:
          ValueError: if a value is out of its limits, or there is neither one nor one a row.
        """
        given = np.asarray(self.default if value is None else value)
        if given.shape not in ((), (batch,)):
            raise ValueError(f"{name} must be one value or {batch}, got shape {list(given.shape)}")
        if self.integer and not np.issubdtype(given.dtype, np.integer) and value is not None:
            raise ValueError(f"{name} must be an integer, got {given.dtype}")
        legal = (given >= self.low) & (given <= self.high)
        if not legal.all():
            raise ValueError(
                f"{name} must lie in [{self.low:g}, {self.high:g}], got {given[~legal].reshape(-1)[0]}"
            )
        dtype = jnp.int32 if self.integer else jnp.float32
        return jnp.broadcast_to(jnp.asarray(given, dtype), (batch,))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Settings:
    """The traced settings of a request; a change of any value compiles nothing.

    Attributes:
      warp: the sampling pipeline.
      max_new_tokens: int32 `[B]`.
      stops: what ends a row.
      knobs: `[B]` each, those that the decoder itself declares (`Knob`).
    """

    warp: Warp
    max_new_tokens: jax.Array
    stops: Stops
    knobs: dict[str, jax.Array] = dataclasses.field(default_factory=dict)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Request:
    """Checked, padded arguments of a decoder's `init`.

    Attributes:
      prompt: int32 `[B, P]`, right-padded.
      lengths: int32 `[B]`, prompt tokens, at least 1.
      settings: the traced settings.
      order: of generation, the prompt in its first ranks; None for causal decoding.
      capacity: tokens a row can hold, static.
    """

    prompt: jax.Array
    lengths: jax.Array
    settings: Settings
    order: Order | None = None
    capacity: int = dataclasses.field(default=0, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
    """The committed tokens of each row and how the row stands; every decoder's state has one.

    The last committed token is *pending*: it is scored in the next forward, and its cache entry is stored then.

    Attributes:
      tokens: int32 `[B, L]`, prompt and generated tokens; zeros after `length`.
      length: int32 `[B]`, committed tokens.
      prompt_length: int32 `[B]`.
      rounds: int32 `[B]`, the steps that the row took part in.
      status: int32 `[B]`, a `Status`.
      history: counts for the penalties, or None if no penalty is set.
      order: of generation; tokens, lengths and everything else here count in ranks. None for causal decoding.
    """

    tokens: jax.Array
    length: jax.Array
    prompt_length: jax.Array
    rounds: jax.Array
    status: jax.Array
    history: History | None
    order: Order | None = None

    @classmethod
    def start(cls, request: Request, vocab_size: int) -> "Rows":
        """Rows that hold their prompts."""
        batch, width = request.prompt.shape
        inside = jnp.arange(width) < request.lengths[:, None]
        tokens = jnp.where(inside, request.prompt, 0)
        zero = jnp.zeros((batch,), jnp.int32)
        history = None
        if request.settings.warp.needs_history:
            history = History.start(request.prompt, request.lengths, vocab_size)
        return cls(
            tokens=jnp.pad(tokens, ((0, 0), (0, request.capacity - width))),
            length=request.lengths,
            prompt_length=request.lengths,
            rounds=zero,
            status=jnp.where(request.settings.max_new_tokens > 0, zero, int(Status.LENGTH)),
            history=history,
            order=request.order,
        )

    @property
    def running(self) -> jax.Array:
        """bool `[B]`."""
        return self.status == Status.RUNNING

    @property
    def pending(self) -> jax.Array:
        """The last committed token, int32 `[B]`."""
        return jnp.take_along_axis(self.tokens, self.length[:, None] - 1, axis=1)[:, 0]

    def window(self, start: jax.Array, width: int) -> jax.Array:
        """Tokens `[B, width]` from position `start [B]`; positions outside the buffer read zero."""
        places = start[:, None] + jnp.arange(width)
        return jnp.take_along_axis(self.tokens, places, axis=1, mode="fill", fill_value=0)

    def advance(
        self,
        settings: Settings,
        chunk: jax.Array,
        count: jax.Array,
        valid: jax.Array,
        *,
        room: jax.Array | None = None,
    ) -> tuple["Rows", jax.Array]:
        """Commits a chunk of tokens to each running row, cut at the first thing that ends the row.

        The chunk ends at the earliest of: an EOS token or the completion of a stop sequence (both kept), the
        row's `max_new_tokens`, a token without a law. A stop that completes on the last allowed token counts as
        a stop.

        Args:
          settings: the request's settings.
          chunk: int32 `[B, W]`.
          count: int32 `[B]`, tokens of the chunk that the step would commit.
          valid: bool `[B, W]`, false where the model's law was not finite.
          room: int32 `[B]`, slots left in the model's cache before this step; a row that could not take another
            W afterwards ends with `CACHE_FULL`.

        Returns:
          The rows, and the number of tokens committed, int32 `[B]` (0 for rows that had ended).
        """
        width = chunk.shape[1]
        places = jnp.arange(width)
        offered = jnp.where(self.running, count, 0)
        first = lambda hits: jnp.where(hits.any(1), jnp.argmax(hits, axis=1), width)

        ended_by = (chunk[:, :, None] == settings.stops.eos).any(-1)
        at_eos = first(ended_by)
        tail = settings.stops.sequences.shape[1] - 1
        generated = self.length - self.prompt_length
        before = self.window(self.length - tail, tail) if tail > 0 else chunk[:, :0]
        at_stop = first(settings.stops.completed(before, generated, chunk))
        budget = jnp.minimum(
            settings.max_new_tokens - generated, self.tokens.shape[1] - self.length
        )
        at_fault = first(~valid)

        cut = jnp.minimum(jnp.minimum(at_eos, at_stop) + 1, jnp.minimum(budget, at_fault))
        taken = jnp.minimum(offered, cut)
        length = self.length + taken
        # The order of the tests is the order of precedence among causes that fall on one token.
        causes = [
            at_eos + 1 == taken,
            at_stop + 1 == taken,
            length - self.prompt_length >= settings.max_new_tokens,
            (at_fault == taken) & (at_fault < offered),
            length >= self.tokens.shape[1],
        ]
        codes = [
            Status.EOS,
            Status.STOP_SEQUENCE,
            Status.LENGTH,
            Status.NONFINITE,
            Status.CACHE_FULL,
        ]
        if room is not None:
            causes.append(room - taken < width)
            codes.append(Status.CACHE_FULL)
        status = jnp.select(causes, [jnp.int32(c) for c in codes], jnp.int32(Status.RUNNING))

        kept = places < taken[:, None]
        tokens = _place(self.tokens, chunk, self.length, taken)
        history = self.history
        if history is not None:
            history = history.add(chunk, kept)
        rows = Rows(
            tokens=tokens,
            length=length,
            prompt_length=self.prompt_length,
            rounds=self.rounds + self.running,
            status=jnp.where(self.running, status, self.status),
            history=history,
            order=self.order,
        )
        return rows, taken


def _place(buffer: jax.Array, chunk: jax.Array, start: jax.Array, count: jax.Array) -> jax.Array:
    """Writes the first `count [B]` of `chunk [B, W, ...]` at `start [B]` of `buffer [B, L, ...]`; O(W)."""
    places = jnp.arange(chunk.shape[1])
    outside = buffer.shape[1]
    index = jnp.where(places < count[:, None], start[:, None] + places, outside + places)
    put = lambda row, at, new: row.at[at].set(new, mode="drop", unique_indices=True)
    return jax.vmap(put)(buffer, index, chunk.astype(buffer.dtype))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Info:
    """What one step did.

    Attributes:
      tokens: int32 `[B, W]`, the chunk; its first `count` tokens were committed.
      start: int32 `[B]`, the position of the chunk's first token.
      count: int32 `[B]`.
      log_probs: float32 `[B, W]`, of each token under the warped law that it was drawn from.
      raw_log_probs: float32 `[B, W]`, under the target's own law, `log softmax(logits)`.
      drafted: bool `[B, W]`, whether the token was proposed by a drafter.
      proposed: int32 `[B]`, draft tokens that were verified.
      accepted: int32 `[B]`, draft tokens that were accepted (before stops cut them).
      target_forwards: int32 `[B]`.
      target_rows: int32 `[B]`, tokens and queries that these scored.
      draft_forwards: int32 `[B]`.
      status: int32 `[B]`, after the step.
      steps: int32 `[B, W]`, the step of the row in which each token was chosen, from 0 on.
    """

    tokens: jax.Array
    start: jax.Array
    count: jax.Array
    log_probs: jax.Array
    raw_log_probs: jax.Array
    drafted: jax.Array
    proposed: jax.Array
    accepted: jax.Array
    target_forwards: jax.Array
    target_rows: jax.Array
    draft_forwards: jax.Array
    status: jax.Array
    steps: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Stats:
    """Counts a row, int32 `[B]` each.

    Attributes:
      target_forwards: forwards of the target that the row took part in (its prompt's not counted).
      target_rows: tokens and queries that these scored for the row.
      draft_forwards: forwards of the draft model.
      proposed: draft tokens verified.
      accepted: draft tokens accepted.
    """

    target_forwards: jax.Array
    target_rows: jax.Array
    draft_forwards: jax.Array
    proposed: jax.Array
    accepted: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Record:
    """The infos of a run, folded into one buffer that is aligned with the rows' tokens.

    Attributes:
      columns: float32 `[B, L, 4]`: log-probability, raw log-probability, 1 for drafted tokens, and 1 plus the step
        that chose the token; one array, so that a step writes it once.
      stats: counts a row.
    """

    columns: jax.Array
    stats: Stats

    @property
    def log_probs(self) -> jax.Array:
        """float32 `[B, L]`, under the warped law; zero for the prompt."""
        return self.columns[:, :, 0]

    @property
    def raw_log_probs(self) -> jax.Array:
        """float32 `[B, L]`, under the target's own law; zero for the prompt."""
        return self.columns[:, :, 1]

    @property
    def drafted(self) -> jax.Array:
        """bool `[B, L]`, whether a drafter proposed the token."""
        return self.columns[:, :, 2] > 0

    @property
    def steps(self) -> jax.Array:
        """int32 `[B, L]`, the step of the row that chose each token; -1 for the prompt."""
        return self.columns[:, :, 3].astype(jnp.int32) - 1

    @classmethod
    def start(cls, rows: Rows) -> "Record":
        """An empty record for some rows."""
        counts = (jnp.zeros(rows.length.shape, jnp.int32) for _ in dataclasses.fields(Stats))
        return cls(jnp.zeros((*rows.tokens.shape, 4), jnp.float32), Stats(*counts))

    def add(self, info: Info) -> "Record":
        """Takes in what a step did."""
        drafted = info.drafted.astype(jnp.float32)
        steps = (info.steps + 1).astype(jnp.float32)
        columns = jnp.stack([info.log_probs, info.raw_log_probs, drafted, steps], axis=-1)
        stats = Stats(
            **{
                field.name: getattr(self.stats, field.name) + getattr(info, field.name)
                for field in dataclasses.fields(Stats)
            }
        )
        return Record(_place(self.columns, columns, info.start, info.count), stats)


class DecoderState(Protocol):
    """What the loop needs of a state."""

    @property
    def rows(self) -> Rows:
        """The rows."""
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

    # Two more are optional: `knobs`, a dict of `Knob` by name, the traced settings that the decoder takes beside those
    # of `Warp`; and `fills_canvas`, whether it fills a canvas of masks, so that its model need not predict next tokens.

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError`, before anything is traced, for what this decoder cannot do."""
        ...

    def init(self, params: Params, request: Request) -> State:
        """Reads the prompts."""
        ...

    def step(self, params: Params, state: State, rng: jax.Array) -> tuple[State, Info]:
        """Takes one step of every row; `rng` is one key a row, `[B]`."""
        ...


def target_params(params: Params) -> Params:
    """The target's parameters: `params["target"]` where parts are named, else `params` itself."""
    return params["target"] if isinstance(params, Mapping) and "target" in params else params


def _loop(decoder, params, state, rng, max_steps, record):
    keys = row_keys(rng, state.rows.status.shape[0])

    def running(carry):
        step, state, _ = carry
        return state.rows.running.any() & (step < max_steps)

    def body(carry):
        step, state, record = carry
        state, info = decoder.step(params, state, keys)
        return step + 1, state, record.add(info)

    _, state, record = jax.lax.while_loop(running, body, (jnp.int32(0), state, record))
    return state, record


_run = jax.jit(_loop, static_argnums=0, donate_argnums=(2, 5))
_init = jax.jit(lambda decoder, params, request: decoder.init(params, request), static_argnums=0)
_step = jax.jit(
    lambda decoder, params, state, keys: decoder.step(params, state, keys),
    static_argnums=0,
    donate_argnums=2,
)


def run(
    decoder: Decoder[State],
    params: Params,
    state: State,
    rng: jax.Array,
    max_steps: int | jax.Array | None = None,
    record: Record | None = None,
) -> tuple[State, Record]:
    """Steps until every row has ended, in one `lax.while_loop`.

    Args:
      decoder: the algorithm; static.
      params: its parameters.
      state: where to start; donated, so it must not be used again.
      rng: one key, or one a row `[B]`. A state continued with the same rng continues the same draws.
      max_steps: stop after as many steps (traced); None for no bound beside the rows' own.
      record: continues the record of an earlier run; donated.

    Returns:
      `(state, record)`. Rows that still run after `max_steps` keep the status `RUNNING`; run again to continue.
    """
    if record is None:
        record = Record.start(state.rows)
    if max_steps is None:
        max_steps = np.iinfo(np.int32).max
    return _run(decoder, params, state, rng, jnp.int32(max_steps), record)


def stream(
    decoder: Decoder[State], params: Params, state: State, rng: jax.Array
) -> Iterator[tuple[State, Info]]:
    """Yields `(state, info)` after each step until every row has ended; the same step as `run`.

    Each yielded state is given away to the next step: read it before asking for the next item, do not keep it.
    """
    keys = row_keys(rng, state.rows.status.shape[0])
    while bool(state.rows.running.any()):
        state, info = _step(decoder, params, state, keys)
        yield state, info


def init(decoder: Decoder[State], params: Params, request: Request) -> State:
    """`decoder.init`, jitted."""
    return _init(decoder, params, request)


def prefill(model: Model, params: Params, request: Request) -> Any:
    """Reads prompts into a fresh cache; the last token of each prompt stays pending.

    Returns:
      A cache of `request.capacity` slots whose rows hold `lengths - 1` tokens.
    """
    return read_prompts(model, params, request)[0]


def read_prompts(model: Model, params: Params, request: Request) -> tuple[Any, Output]:
    """As `prefill`, and the output over the prompts `[B, P]`, for those who draft from it."""
    batch, width = request.prompt.shape
    order = request.order
    inputs = prompt_inputs(request.prompt, request.lengths, order)
    if order is not None:
        inputs = dataclasses.replace(inputs, positions=order.at(inputs.positions))
    output = model.forward(params, inputs, None)
    index = jnp.broadcast_to(jnp.arange(width), (batch, width))
    cache = model.init_cache(batch, request.capacity)
    lives = visibility.causal(index).lives
    return cache.commit(output.entries, index, request.lengths - 1, lives), output
