"""What a batch says: texts of a result, and text as it is made.

Legend: B rows.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxdec.decoding import Decoder, Request, Status, init, stream
from jaxdec.generation.prepare import prepare
from jaxdec.generation.result import Result
from jaxdec.model import Params
from jaxdec.text import TextStream, Tokenizer, strings_by_row


def generated_texts(
    result: Result,
    tokenizer: Tokenizer,
    *,
    stop_strings: Any = (),
    keep_stop: bool = False,
    hypotheses: int = 1,
) -> list[str]:
    """The new text of each row, as it continues the prompt.

    Args:
      result: of `generate`.
      tokenizer: that of the model.
      stop_strings: as they were given to `generate`. The text is cut at the first that is completed; a token that
        completes one may go on behind it, so `result.tokens` may say more.
      keep_stop: whether the stop string itself stays.
      hypotheses: as given to `generate`.

    Returns:
      B texts.

    Raises:
      ValueError: for impossible stop strings.
    """
    tokens, lengths, prompts = jax.device_get(
        (result.tokens, result.lengths, result.prompt_lengths)
    )
    writers = _writers(tokenizer, stop_strings, keep_stop, len(lengths), hypotheses)
    return [
        writer.add(row[start:end]) + writer.end()
        for writer, row, start, end in zip(writers, tokens, prompts, lengths, strict=True)
    ]


def stream_text(
    decoder: Decoder,
    params: Params,
    prompt: jax.Array | np.ndarray,
    *,
    rng: jax.Array | int,
    tokenizer: Tokenizer,
    stop_strings: Any = (),
    keep_stop: bool = False,
    **arguments: Any,
) -> Iterator[tuple[str, ...]]:
    """Decodes and yields text as it is made: the new piece of each row, after each step that made any.

    The pieces of a row, joined, are its text in `generated_texts(generate(...))`. No piece ends inside of a character,
    and none shows a part of a stop string that may still be completed.

    Args:
      decoder: such as `jaxdec.autoregressive(model)`.
      params: parameters by part name, `{"target": ...}`.
      prompt: int `[B, P]`, right-padded.
      rng: as for `generate`.
      tokenizer: that of the model.
      stop_strings: as for `generate`.
      keep_stop: whether the stop string that ends a row is shown.
      **arguments: the other arguments of `generate`.

    Yields:
      A tuple of B strings; `""` for a row that has nothing new.

    Raises:
      ValueError: as `generate`, at once; and for a decoder whose rows take the past of others.
    """
    request = prepare(
        decoder, params, prompt, stop_strings=stop_strings, tokenizer=tokenizer, **arguments
    )
    rows, hypotheses = request.lengths.shape[0], request.hypotheses
    writers = _writers(tokenizer, stop_strings, keep_stop, rows, hypotheses)
    return _pieces(decoder, params, request, rng, writers)


def _pieces(
    decoder: Decoder,
    params: Params,
    request: Request,
    rng: jax.Array | int,
    writers: Sequence[TextStream],
) -> Iterator[tuple[str, ...]]:
    """The pieces of `stream_text`."""
    for _, info in stream(decoder, params, init(decoder, params, request), rng):
        if info.source is not None:
            raise ValueError(
                "rows of this decoder take the past of others: what was shown may not stay"
            )
        tokens, count, status = jax.device_get((info.tokens, info.count, info.status))
        pieces = tuple(
            writer.add(row[:n]) + ("" if code == Status.RUNNING else writer.end())
            for writer, row, n, code in zip(writers, tokens, count, status, strict=True)
        )
        if any(pieces):
            yield pieces


def _writers(
    tokenizer: Tokenizer, stop_strings: Any, keep_stop: bool, rows: int, hypotheses: int
) -> list[TextStream]:
    """What gives the text of each row."""
    return [
        tokenizer.stream(begins=False, stop_strings=strings, keep_stop=keep_stop)
        for strings in strings_by_row(stop_strings, rows // hypotheses)
        for _ in range(hypotheses)
    ]
