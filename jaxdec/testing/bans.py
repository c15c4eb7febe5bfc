"""What a text rules out, by loops over lists of tokens: the twin of the pipeline's bans."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

NAMES = (
    "no_repeat_ngram",
    "bad_words",
    "min_new_tokens",
    "ends",
    "forced_prefix",
    "constraint",
    "budget",
)
"""Settings of `Warp` that are read here, and the new tokens that a row has at most."""


def ruled_out(
    text: Sequence[int], start: int, vocab_size: int, knobs: Mapping[str, Any]
) -> tuple[set[int], int | None]:
    """The tokens that may not come next, and the one that has to, if there is one.

    Args:
      text: prompt and generated tokens.
      start: tokens of the prompt.
      vocab_size: V.
      knobs: settings of `Warp` for this row, of which those in `NAMES` are read; -1 fills up words and sequences.
    """
    text, banned = list(text), set[int]()
    size = int(knobs.get("no_repeat_ngram") or 0)
    if size:
        ngrams = [tuple(text[i : i + size]) for i in range(len(text) - size + 1)]
        last = tuple(text[len(text) - size + 1 :]) if size > 1 else ()
        banned |= {v for v in range(vocab_size) if (*last, v) in ngrams}
    for word in _given(knobs, "bad_words"):
        *before, end = [int(v) for v in word if v >= 0] or [-1]
        if end >= 0 and (not before or text[-len(before) :] == before):
            banned.add(end)
    if len(text) - start < int(knobs.get("min_new_tokens") or 0):
        banned |= {int(v) for v in _given(knobs, "ends")}
    if knobs.get("constraint") is not None:
        banned |= _not_accepted(text[start:], vocab_size, knobs)
    prefix, place = list(_given(knobs, "forced_prefix")), len(text) - start
    forced = int(prefix[place]) if 0 <= place < len(prefix) else -1
    return banned, forced if forced >= 0 else None


def _not_accepted(text: list[int], vocab_size: int, knobs: Mapping[str, Any]) -> set[int]:
    """The tokens after which no text is accepted that has at most `budget` tokens."""
    automaton, ends = knobs["constraint"], {int(v) for v in _given(knobs, "ends")}
    state, left = automaton.after(text), int(knobs["budget"]) - len(text) - 1
    banned = set[int]()
    if left < 0:  # beyond the budget, which a buffer may be asked for all the same
        return banned
    for token in range(vocab_size):
        after = int(automaton.next[state, token])
        legal = after != 0 and int(automaton.shortest[after]) <= left
        if token in ends:
            legal = bool(automaton.accepting[state])
        if not legal:
            banned.add(token)
    return banned


def _given(knobs: Mapping[str, Any], name: str) -> Iterable[Any]:
    value = knobs.get(name)
    return () if value is None else value
