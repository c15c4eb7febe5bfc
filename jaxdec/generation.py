"""One call from prompts to text: checks, buckets, and the result."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.decoding import (
    Decoder,
    DecoderState,
    Record,
    Request,
    Settings,
    Stats,
    Status,
    Stops,
    init,
    run,
)
from jaxdec.model import Params
from jaxdec.order import Order
from jaxdec.sampling import Warp, row_keys


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Result:
    """What `generate` returns: a pytree of arrays on the device, so that `jax.block_until_ready` waits for it.

    Attributes:
      tokens: int32 `[B, L]`, each prompt followed by its new tokens; zeros after `lengths`.
      lengths: int32 `[B]`, tokens in each row, the prompt's included.
      prompt_lengths: int32 `[B]`.
      log_probs: float32 `[B, L]` of each new token under the law that it was drawn from; zero for the prompt.
      raw_log_probs: float32 `[B, L]` under the target's unwarped law.
      drafted: bool `[B, L]`, whether a drafter proposed the token.
      stats: counts a row.
      steps: int32 `[B, L]`, the step of the row in which each new token was chosen, from 0 on; -1 for the prompt.
      codes: int32 `[B]`, a `Status` a row.
    """

    tokens: jax.Array
    lengths: jax.Array
    prompt_lengths: jax.Array
    log_probs: jax.Array
    raw_log_probs: jax.Array
    drafted: jax.Array
    steps: jax.Array
    stats: Stats
    codes: jax.Array

    @property
    def status(self) -> list[Status]:
        """Why each row ended."""
        return [Status(int(code)) for code in np.asarray(self.codes)]


def bucket(size: int, smallest: int = 32) -> int:
    """The least power of two that is at least `size` and `smallest`."""
    return max(smallest, 1 << max(size - 1, 0).bit_length())


def prepare(
    decoder: Decoder,
    params: Params,
    prompt: jax.Array | np.ndarray,
    *,
    max_new_tokens: int | jax.Array = 128,
    lengths: Any = None,
    eos: Any = None,
    stop: Any = (),
    order: Order | None = None,
    **knobs: Any,
) -> Request:
    """Checks the arguments of `generate` and pads them to buckets; see there.

    Raises:
      ValueError: naming the value and the limit.
    """
    prompt = np.asarray(prompt)
    if prompt.ndim != 2:
        raise ValueError(f"prompt must have shape [B, P], got {prompt.shape}")
    if not np.issubdtype(prompt.dtype, np.integer):
        raise ValueError(f"prompt must hold integer tokens, got {prompt.dtype}")
    batch, width = prompt.shape
    if batch < 1:
        raise ValueError("prompt has no rows; at least 1 is needed")
    lengths = np.full((batch,), width) if lengths is None else np.asarray(lengths)
    if lengths.shape != (batch,):
        raise ValueError(f"lengths must have shape [{batch}], got {list(lengths.shape)}")
    for row, length in enumerate(lengths):
        if not 1 <= length <= width:
            raise ValueError(f"prompt {row} has {length} tokens; 1 to {width} are allowed")
    vocab_size = decoder.model.vocab_size
    inside = np.arange(width) < lengths[:, None]
    bad = inside & ((prompt < 0) | (prompt >= vocab_size))
    if bad.any():
        row, place = np.argwhere(bad)[0]
        raise ValueError(
            f"prompt token {prompt[row, place]} at row {row}, position {place} is outside the "
            f"vocabulary of {vocab_size}"
        )
    budget = np.broadcast_to(np.asarray(max_new_tokens), (batch,))
    if (budget < 0).any():
        raise ValueError(f"max_new_tokens must be at least 0, got {budget.min()}")
    longest = decoder.model.max_length
    if longest is not None and (lengths + budget).max() > longest:
        row = int(np.argmax(lengths + budget))
        raise ValueError(
            f"prompt {row} has {lengths[row]} tokens and asks for {budget[row]} more; the model's "
            f"capacity is {longest}"
        )
    eos = decoder.model.eos if eos is None else np.asarray(eos).reshape(-1)
    for name, tokens in [("eos", eos), *((f"stop sequence {i}", s) for i, s in enumerate(stop))]:
        for token in np.asarray(tokens).reshape(-1):
            if not 0 <= token < vocab_size:
                raise ValueError(f"{name} holds {token}, outside the vocabulary of {vocab_size}")
    fills_canvas = getattr(decoder, "fills_canvas", False)
    if decoder.model.canvas and not fills_canvas:
        raise ValueError(
            "the model fills a canvas and predicts no next token; decode it with jaxdec.denoise, or make a causal "
            "model of it with diffusion.next_token"
        )
    if order is not None and not decoder.model.any_subset and not fills_canvas:
        raise ValueError(
            "the model is causal and cannot fill an order of the request; wrap one that was trained for it with "
            "any_subset.two_stream or any_subset.masked_rows"
        )
    if order is None and not decoder.model.causal and not fills_canvas:
        raise ValueError("the model fills gaps and predicts no next token; use jaxdec.infill")
    padded = bucket(width)
    # The slack lets a step write its whole chunk at the last committed token.
    capacity = padded + bucket(int(budget.max())) + bucket(decoder.width, 8)
    if order is not None:
        missing = ((0, 0), (0, max(capacity - order.places.shape[1], 0)))
        order = dataclasses.replace(order, places=jnp.pad(order.places, missing)[:, :capacity])
    own = {
        name: knob.checked(name, knobs.pop(name, None), batch)
        for name, knob in getattr(decoder, "knobs", {}).items()
    }
    settings = Settings(
        warp=Warp(**knobs).validate(batch, vocab_size),
        max_new_tokens=jnp.asarray(budget, jnp.int32),
        stops=Stops.create(eos, stop),
        knobs=own,
    )
    request = Request(
        prompt=jnp.asarray(np.pad(prompt, ((0, 0), (0, padded - width))), jnp.int32),
        lengths=jnp.asarray(lengths, jnp.int32),
        settings=settings,
        order=order,
        capacity=capacity,
    )
    decoder.check(request, params)
    return request


def generate(
    decoder: Decoder,
    params: Params,
    prompt: jax.Array | np.ndarray,
    *,
    rng: jax.Array,
    max_new_tokens: int | jax.Array = 128,
    lengths: Any = None,
    eos: Any = None,
    stop: Any = (),
    order: Order | None = None,
    **knobs: Any,
) -> Result:
    """Decodes a batch of prompts.

    Prompt width and `max_new_tokens` are padded to powers of two, so that other lengths of the same size and other
    values of every knob reuse the compiled program.

    Args:
      decoder: such as `jaxdec.autoregressive(model)`.
      params: the target's parameters, or a dict with a part for each model (`"target"`, `"draft"`).
      prompt: int `[B, P]`, right-padded.
      rng: one key (row b then uses `fold_in(rng, b)`), or one key a row `[B]`.
      max_new_tokens: an integer, or one a row `[B]`.
      lengths: int `[B]`, the tokens in each prompt; all P if not given.
      eos: tokens that end a row; the model's own if not given, `()` for none.
      stop: sequences of tokens that end a row once the generated text holds them.
      order: of generation, for models that answer queries: prompt, lengths and result then count in ranks.
        `jaxdec.infill` takes and returns positions.
      **knobs: settings of `jaxdec.sampling.Warp`, scalars or one a row: `temperature`, `top_k`, `top_p`, ...; and those
        that the decoder declares.

    Raises:
      ValueError: for impossible arguments, before anything is traced, naming the value and the limit.
    """
    request = prepare(
        decoder,
        params,
        prompt,
        max_new_tokens=max_new_tokens,
        lengths=lengths,
        eos=eos,
        stop=stop,
        order=order,
        **knobs,
    )
    keys = row_keys(rng, request.prompt.shape[0])
    state = init(decoder, params, request)
    state, record = run(decoder, params, state, keys)
    return result(state, record)


def result(state: DecoderState, record: Record) -> Result:
    """Joins the rows of a state with the record of the run that led to it."""
    rows = state.rows
    return Result(
        tokens=rows.tokens,
        lengths=rows.length,
        prompt_lengths=rows.prompt_length,
        log_probs=record.log_probs,
        raw_log_probs=record.raw_log_probs,
        drafted=record.drafted,
        steps=record.steps,
        stats=record.stats,
        codes=rows.status,
    )


def acceptance_by_depth(result: Result, depth: int | None = None) -> np.ndarray:
    """How many steps of each row kept at least d drafted tokens, for d = 0, ..., D; at d = 0, all its steps.

    The ratio of neighbours is the acceptance at that depth, given that all before it was accepted. Tokens that a stop
    or the end of a row cut off do not count.

    Args:
      result: of `generate`.
      depth: D; the longest path that any row accepted if not given.

    Returns:
      int `[B, D + 1]`.
    """
    steps, drafted = np.asarray(result.steps), np.asarray(result.drafted)
    rounds = steps.max(1) + 1  # every step commits a token
    accepted = np.zeros((len(steps), rounds.max()), int)
    row, place = np.nonzero(drafted)
    np.add.at(accepted, (row, steps[row, place]), 1)
    deepest = accepted.max(initial=0) if depth is None else depth
    taken = np.arange(rounds.max()) < rounds[:, None]
    return ((accepted[..., None] >= np.arange(deepest + 1)) & taken[..., None]).sum(1)
