"""One call from prompts to text."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxdec.cache import Cache
from jaxdec.decoding import Decoder, decode
from jaxdec.generation.prepare import prepare
from jaxdec.generation.result import Result, result
from jaxdec.model import Order, Params
from jaxdec.parallel import Placement
from jaxdec.text import Tokenizer


def generate(
    decoder: Decoder,
    params: Params,
    prompt: jax.Array | np.ndarray,
    *,
    rng: jax.Array | int | Sequence[int],
    max_new_tokens: int | jax.Array = 128,
    lengths: Any = None,
    eos: Any = None,
    stop: Any = (),
    stop_strings: Any = (),
    tokenizer: Tokenizer | None = None,
    order: Order | None = None,
    hypotheses: int = 1,
    top_log_probs: int = 0,
    most_new_tokens: int | None = None,
    cache: Callable[[Any], Cache] | None = None,
    placement: Placement | None = None,
    **knobs: Any,
) -> Result:
    """Decodes a batch of prompts.

    Prompt width and `max_new_tokens` are padded to powers of two, so that other lengths of the same size and other
    values of every knob reuse the compiled program. Inside `jit` and `vmap`, what is traced (prompts, lengths, keys,
    knobs, parameters) is checked by shape and type alone.

    Args:
      decoder: such as `jaxdec.autoregressive(model)`.
      params: parameters by part name: `{"target": ...}`, and those of further parts (`"draft"`).
      prompt: int `[B, P]`, right-padded.
      rng: one key or integer seed (row b then uses `fold_in(rng, b)`), one key a row `[B]`, or one integer seed a
        prompt, with which it is decoded as it is alone with `rng` that seed.
      max_new_tokens: an integer, or one a row `[B]`.
      lengths: int `[B]`, the tokens in each prompt; all P if not given.
      eos: tokens that end a row; the model's own if not given, `()` for none.
      stop: sequences of tokens that end a row once the generated text holds them.
      stop_strings: strings that end a row once the generated text holds them, in whatever tokens: one, several, or a
        list of them a prompt. The token that completes one is kept; `generated_texts` cuts the text at the string.
      tokenizer: that of the model, for `stop_strings`; `jaxdec.text.BYTES` for the shipped checkpoints.
      order: of generation, for models that answer queries: prompt, lengths and result then count in ranks.
        `jaxdec.infill` takes and returns positions.
      hypotheses: H, rows of each prompt, which is read once for all of them. The result has `B H` rows, hypothesis h
        of prompt p at row `p H + h`; hypothesis 0 draws as a prompt that is decoded once, the others with keys of their
        own (`sampling.row_keys`).
      top_log_probs: K, the most probable tokens that are reported beside each new one, with their log-probabilities
        under the model's own law, as `raw_log_probs`; 0 for none, which costs nothing.
      most_new_tokens: a bound on `max_new_tokens`, for calls in which that is traced: it sizes the buffers.
      cache: from the empty cache of each model to the one that is used (`jaxdec.cache.Cache`), such as one that rounds
        or compresses; part of the compiled program, so give the same function each time. The models' own if not given.
      placement: a mesh of devices, and what lies on which (`jaxdec.parallel.placement`); the tokens are the same as on
        one device. Prompts that do not divide over the devices are joined by some that end at once. Place the
        parameters once for several calls: `params = placement.place(params)`.
      **knobs: settings of `jaxdec.sampling.Warp`, scalars, one a prompt `[B]` or one a row `[B H]`: `temperature`,
        `top_k`, `top_p`, ...; and those that the decoder declares. `constraint` is an automaton that every row follows
        (`jaxdec.text.regex`, `jaxdec.text.json_schema`, `jaxdec.text.Automaton`), or a list of one a prompt, None for
        none: rows then end in one of its accepting states, whatever tokens spell the text.

    Returns:
      Prompts and what was generated. At temperature 0 `log_probs` are all 0: the law that a greedy token is drawn from
      is certain of it. `raw_log_probs` are the model's own.

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
        stop_strings=stop_strings,
        tokenizer=tokenizer,
        order=order,
        hypotheses=hypotheses,
        top_log_probs=top_log_probs,
        most_new_tokens=most_new_tokens,
        cache=cache,
        **knobs,
    )
    state, record = decode(decoder, params, request, rng, placement)
    found = result(state, record)
    batch = request.prompt.shape[0]
    return found if len(found.codes) == batch else jax.tree.map(lambda x: x[:batch], found)
