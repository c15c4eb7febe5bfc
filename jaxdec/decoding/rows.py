"""The committed tokens of each row, and how a step's chunk is cut.

Legend: B rows, L buffer width, W tokens that a step commits at most.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdec.decoding.request import Request, Settings
from jaxdec.decoding.stops import Status
from jaxdec.model import Order
from jaxdec.sampling import History, TextBefore


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
      counts: of tokens, for the penalties, or None if no penalty is set.
      order: of generation; tokens, lengths and everything else here count in ranks. None for causal decoding.
      stop_state: int32 `[B]`, where each row is in its stop strings (`Stops.strings`); None if there are none.
      automaton_state: int32 `[B]`, where each row is in the automaton of its constraint; None if there is none.
      hypotheses: H, adjacent rows that share a prompt; static.
      top_log_probs: K, how many of the most probable tokens are recorded beside each token; static.
    """

    tokens: jax.Array
    length: jax.Array
    prompt_length: jax.Array
    rounds: jax.Array
    status: jax.Array
    counts: History | None
    order: Order | None = None
    stop_state: jax.Array | None = None
    automaton_state: jax.Array | None = None
    hypotheses: int = dataclasses.field(default=1, metadata={"static": True})
    top_log_probs: int = dataclasses.field(default=0, metadata={"static": True})

    @classmethod
    def start(cls, request: Request, vocab_size: int) -> "Rows":
        """Rows that hold their prompts."""
        batch, width = request.prompt.shape
        inside = jnp.arange(width) < request.lengths[:, None]
        tokens = jnp.where(inside, request.prompt, 0)
        zero = jnp.zeros((batch,), jnp.int32)
        counts, constraint = None, request.settings.warp.constraint
        if request.settings.warp.needs_counts:
            counts = History.start(request.prompt, request.lengths, vocab_size)
        return cls(
            tokens=jnp.pad(tokens, ((0, 0), (0, request.capacity - width))),
            length=request.lengths,
            prompt_length=request.lengths,
            rounds=zero,
            status=jnp.where(request.settings.max_new_tokens > 0, zero, int(Status.LENGTH)),
            counts=counts,
            order=request.order,
            stop_state=request.settings.stop_state,
            automaton_state=None if constraint is None else constraint.start,
            hypotheses=request.hypotheses,
            top_log_probs=request.top_log_probs,
        )

    @property
    def running(self) -> jax.Array:
        """bool `[B]`."""
        return self.status == Status.RUNNING

    @property
    def history(self) -> History:
        """What the logits pipeline reads of the past of each row's next token."""
        text = TextBefore.of(self.tokens, self.length, self.prompt_length)
        counts = self.counts
        if counts is None:
            return History(text=text, state=self.automaton_state)
        return dataclasses.replace(counts, text=text, state=self.automaton_state)

    @property
    def pending(self) -> jax.Array:
        """The last committed token, int32 `[B]`."""
        return _at(self.tokens, self.length - 1)

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

        The chunk ends at the earliest of: an EOS token or the completion of a stop sequence or string (kept), the
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
        offered = jnp.where(self.running, count, 0).astype(jnp.int32)
        states = None
        if self.stop_state is not None:
            states = settings.stops.follow(self.stop_state, chunk)
        ends = self._ends(settings, chunk, valid, states)
        taken = jnp.minimum(offered, ends.cut)
        length = self.length + taken
        counts = self.counts
        if counts is not None:
            counts = counts.add(chunk, jnp.arange(chunk.shape[1]) < taken[:, None])
        automaton_state = self.automaton_state
        if automaton_state is not None:
            generated = self.length - self.prompt_length
            through = settings.warp.constraint.follow(automaton_state, generated, chunk)
            automaton_state = _at(through, taken)
        rows = dataclasses.replace(
            self,
            tokens=place_chunk(self.tokens, chunk, self.length, taken),
            length=length,
            rounds=self.rounds + self.running,
            counts=counts,
            stop_state=None if states is None else _at(states, taken),
            automaton_state=automaton_state,
        )
        # The order of the tests is the order of precedence among causes that fall on one token.
        causes = [
            (ends.eos + 1 == taken, Status.EOS),
            (ends.stop + 1 == taken, Status.STOP_SEQUENCE),
            (length - self.prompt_length >= settings.max_new_tokens, Status.LENGTH),
            ((ends.fault == taken) & (ends.fault < offered), Status.NONFINITE),
            (length >= self.tokens.shape[1], Status.CACHE_FULL),
        ]
        if room is not None:
            causes.append((room - taken < chunk.shape[1], Status.CACHE_FULL))
        status = jnp.select(
            [holds for holds, _ in causes],
            [jnp.int32(code) for _, code in causes],
            jnp.int32(Status.RUNNING),
        )
        status = jnp.where(self.running, status, self.status)
        return dataclasses.replace(rows, status=status), taken

    def _ends(
        self, settings: Settings, chunk: jax.Array, valid: jax.Array, states: jax.Array | None
    ) -> "_Ends":
        """Where in a chunk each cause to end the row comes first.

        Arguments as for `advance`, and `states [B, W + 1]`, where the row is in its stop strings.
        """
        width = chunk.shape[1]

        def first(hits):
            place = jnp.argmax(hits, axis=1).astype(jnp.int32)
            return jnp.where(hits.any(1), place, width)

        tail = settings.longest_stop - 1
        before = self.window(self.length - tail, tail) if tail > 0 else chunk[:, :0]
        generated = self.length - self.prompt_length
        stopped = settings.completed(before, generated, chunk)
        if states is not None:
            stopped |= states[:, 1:] == 0
        return _Ends(
            eos=first(settings.ends(chunk)),
            stop=first(stopped),
            fault=first(~valid),
            budget=jnp.minimum(
                settings.max_new_tokens - generated, self.tokens.shape[1] - self.length
            ),
        )


class _Ends(NamedTuple):
    """Where a chunk ends, int32 `[B]` each; W for a cause that does not hold in it.

    Attributes:
      eos: the place of the first EOS token.
      stop: the place at which the first stop sequence or stop string is complete.
      fault: the place of the first token without a law.
      budget: tokens that the row may still take.
    """

    eos: jax.Array
    stop: jax.Array
    fault: jax.Array
    budget: jax.Array

    @property
    def cut(self) -> jax.Array:
        """Tokens that are taken at most: up to a stop, which is kept, or to a fault, which is not."""
        kept = jnp.minimum(self.eos, self.stop) + 1
        return jnp.minimum(kept, jnp.minimum(self.budget, self.fault))


def _at(values: jax.Array, place: jax.Array) -> jax.Array:
    """`values[b, place[b]]` of `[B, N]`."""
    return jnp.take_along_axis(values, place[:, None], axis=1)[:, 0]


def place_chunk(
    buffer: jax.Array, chunk: jax.Array, start: jax.Array, count: jax.Array
) -> jax.Array:
    """Writes the first `count [B]` of `chunk [B, W, ...]` at `start [B]` of `buffer [B, L, ...]`; O(W)."""
    places = jnp.arange(chunk.shape[1])
    outside = buffer.shape[1]
    index = jnp.where(places < count[:, None], start[:, None] + places, outside + places)
    put = lambda row, at, new: row.at[at].set(new, mode="drop", unique_indices=True)
    return jax.vmap(put)(buffer, index, chunk.astype(buffer.dtype))
