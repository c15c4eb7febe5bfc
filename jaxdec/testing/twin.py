"""Plain decoding again, as a Python loop over one row with no cache: the twin that fast decoders are compared with."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import visibility
from jaxdec.decoding import Status
from jaxdec.model import Inputs, Model, Params, Queries
from jaxdec.sampling import History, Purpose, Warp, gumbel, key_at
from jaxdec.testing.bans import NAMES, ruled_out


@dataclasses.dataclass(frozen=True)
class TwinResult:
    """What the twin wrote.

    Attributes:
      tokens: prompt and new tokens.
      log_probs: of the new tokens, under the warped law.
      raw_log_probs: of the new tokens, under the model's own law.
      raw_laws: the model's own law `[V]` of each of them.
      status: why it ended.
    """

    tokens: list[int]
    log_probs: list[float]
    raw_log_probs: list[float]
    raw_laws: list[np.ndarray]
    status: Status


@functools.partial(jax.jit, static_argnums=0)
def _laws(model, params, warp, key, padded, order, start, length):
    """Warped law, raw law and noise `[V]` of the token at rank `length`."""
    places = jnp.arange(padded.shape[1])[None]
    if order is None:
        inputs = Inputs.causal(padded, valid=places < length)
        logits = model(params, inputs, None).logits
        logits = jax.lax.dynamic_index_in_dim(logits, length - 1, axis=1, keepdims=False)
    else:  # one query that sees every known token
        known = visibility.full(places).where(places < length)
        query = Queries(
            order[:, length][:, None], known.query_spans[:, :1], jnp.asarray(order.shape[1:])
        )
        inputs = Inputs(padded, order, *known, query)
        logits = model(params, inputs, None).logits[:, 0]
    history = None
    if warp.needs_counts:
        history = History.start(padded, start[None], model.vocab_size)
        history = history.add(padded, (places >= start) & (places < length))
    noise = gumbel(key_at(key[None], Purpose.TOKEN, length[None]), model.vocab_size)
    return warp.log_probs(logits, history)[0], jax.nn.log_softmax(logits)[0], noise[0]


def python_twin(
    model: Model,
    params: Params,
    prompt: Sequence[int],
    key: jax.Array,
    *,
    max_new_tokens: int,
    eos: Sequence[int] = (),
    stop: Sequence[Sequence[int]] = (),
    places: Sequence[int] | None = None,
    width: int = 128,
    **knobs,
) -> TwinResult:
    """Decodes one row: a whole forward a token, no cache, stops tested on Python lists.

    Args:
      model: the target.
      params: its parameters.
      prompt: tokens.
      key: the row's key.
      max_new_tokens: as in `generate`.
      eos: tokens that end the row.
      stop: sequences that end the row.
      places: the position of each rank, for decoding in an order; the prompt has the first ranks.
      width: the sequence is padded to this length, so that one program is compiled.
      **knobs: of `Warp`, scalars; words and sequences of tokens are those of this row.
    """
    size = model.vocab_size
    banned = np.zeros(size, bool) | np.asarray(knobs.pop("banned", False))
    read = {"ends": eos, "budget": max_new_tokens}
    read |= {name: knobs.pop(name) for name in NAMES if name in knobs}
    warp = Warp(**knobs, banned=banned).validate(1, size)
    tokens, log_probs, raw_log_probs = list(map(int, prompt)), [], []
    raw_laws: list[np.ndarray] = []
    start = len(tokens)
    order = None
    if places is not None:
        order = np.zeros((1, width), np.int32)
        order[0, : len(places)] = places
    status = Status.RUNNING if max_new_tokens > 0 else Status.LENGTH
    while status is Status.RUNNING:
        padded = np.zeros((1, width), np.int32)
        padded[0, : len(tokens)] = tokens
        ends = jnp.int32(start), jnp.int32(len(tokens))
        never, forced = ruled_out(tokens, start, size, read)
        table = banned | np.isin(np.arange(size), list(never))
        if forced is not None:
            table = np.arange(size) != forced
        own = dataclasses.replace(warp, banned=table[None])
        laws = _laws(model, params, own, key, padded, order, *ends)
        law, raw, noise = map(np.asarray, laws)
        token = int(np.argmax(law + noise))
        if not np.isfinite(law[token]):
            status = Status.NONFINITE
            break
        tokens.append(token)
        log_probs.append(float(law[token]))
        raw_log_probs.append(float(raw[token]))
        raw_laws.append(raw)
        new = tokens[start:]
        if token in eos:
            status = Status.EOS
        elif any(new[-len(s) :] == list(s) for s in stop):
            status = Status.STOP_SEQUENCE
        elif len(new) >= max_new_tokens:
            status = Status.LENGTH
    return TwinResult(tokens, log_probs, raw_log_probs, raw_laws, status)
