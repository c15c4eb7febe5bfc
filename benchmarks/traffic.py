"""Random requests, good and bad, each a function of a seed and its number: nothing of them has to be kept."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdec.generation.requests import Call
from jaxdec.text import ByteTokenizer, Tokenizer

STRINGS: tuple[tuple[str, ...], ...] = (("ee",), ("an", "\n\n"))
"""Sets of stop strings."""
LETTERS = b"aeinrst \n_"
"""Bytes that stops are made of."""
SHARES = {"bad": 0.05, "poison": 0.03, "cancel": 0.06, "deadline": 0.06, "timeout": 0.01}
"""Of requests with a fate of their own; the others are left alone."""


@dataclasses.dataclass(frozen=True)
class Letters(ByteTokenizer):
    """A vocabulary of `LETTERS`, and two tokens more that stand for nothing.

    It is small, so that a sum over the vocabulary is the same to the last bit in programs of any number of rows.
    """

    vocab_size: int = len(LETTERS) + 2
    eos: tuple[int, ...] = ()
    mask_token: int | None = len(LETTERS) + 1

    def pieces(self) -> Sequence[bytes]:
        """The byte of each token."""
        return (*(bytes([letter]) for letter in LETTERS), b"", b"")

    def to_ids(self, text: str | bytes) -> np.ndarray:
        """The numbers of letters."""
        raw = text.encode() if isinstance(text, str) else bytes(text)
        return np.array([LETTERS.index(letter) for letter in raw], np.int32)


@dataclasses.dataclass(frozen=True)
class Traffic:
    """What requests are made of.

    Attributes:
      seed: of all of them.
      tokenizer: of the model.
      poison: the token that makes laws NaN.
      max_prompt: tokens, as the engine's.
      max_new_tokens: likewise.
      knobs: the engine's, with their values.
      text: tokens of which prompts are windows; random letters if not given.
    """

    seed: int
    tokenizer: Tokenizer
    poison: int
    max_prompt: int
    max_new_tokens: int
    knobs: Mapping[str, Any]
    text: np.ndarray | None = None

    def fate(self, number: int) -> str:
        """What happens to a request: a key of `SHARES`, or nothing."""
        draw, total = self._draw(number, 0).random(), 0.0
        for name, share in SHARES.items():
            total += share
            if draw < total:
                return name
        return ""

    def call(self, number: int) -> Any:
        """A request; one that nobody can serve may be anything."""
        draw, fate = self._draw(number, 1), self.fate(number)
        good = self._good(number, draw)
        if fate == "poison":
            prompt = np.array(good.prompt)
            prompt[draw.integers(len(prompt))] = self.poison
            return dataclasses.replace(good, prompt=prompt)
        if fate == "deadline":
            return dataclasses.replace(good, deadline=int(draw.integers(0, 40)))
        if fate == "timeout":
            return dataclasses.replace(good, timeout=0.0)
        if fate == "bad":
            return list(self.bad(good).values())[draw.integers(len(self.bad(good)))]
        return good

    def _good(self, number: int, draw: np.random.Generator) -> Call:
        size = int(draw.integers(1, self.max_prompt + 1))
        letters = self.tokenizer.to_ids(LETTERS)
        if self.text is None:
            prompt = draw.choice(letters, size).astype(np.int32)
        else:
            start = draw.integers(len(self.text) - size)
            prompt = self.text[start : start + size].astype(np.int32)
        token: Any = lambda count: [int(x) for x in draw.choice(letters, count)]
        ends = draw.random(3) < (0.3, 0.2, 0.1)  # eos, sequences, strings: never beside the others
        knobs: dict[str, Any] = {}
        if "temperature" in self.knobs:
            knobs["temperature"] = float(draw.choice([0.0, 0.7, 1.0, 1.3]))
        if "top_p" in self.knobs and draw.random() < 0.5:
            knobs["top_p"] = float(draw.choice([0.9, 0.5]))
        if "repetition_penalty" in self.knobs and draw.random() < 0.3:
            knobs["repetition_penalty"] = 1.2
        return Call(
            prompt=prompt,
            rng=int(draw.integers(2**31)),
            max_new_tokens=int(draw.integers(0, self.max_new_tokens + 1)),
            eos=tuple(token(2)) if ends[0] else (),
            stop=(token(3), token(int(draw.integers(1, 3)))) if ends[1] else (),
            stop_strings=STRINGS[draw.integers(len(STRINGS))] if ends[2] else (),
            samples=int(draw.choice([1, 1, 1, 1, 1, 1, 1, 2, 3])),
            priority=int(draw.choice([0, 0, 0, 1, 5, -3])),
            knobs=knobs,
            tag=number,
        )

    def bad(self, good: Call) -> dict[str, Any]:
        """Requests that nobody can serve, by what is wrong with them."""
        other: Any = lambda **fields: dataclasses.replace(good, **fields)
        long = np.zeros(self.max_prompt + 1, np.int32)
        knob, vocab_size = next(iter(self.knobs)), self.tokenizer.vocab_size
        return {
            "no request": good.prompt,
            "too long a prompt": other(prompt=long),
            "no prompt": other(prompt=np.zeros(0, np.int32)),
            "a prompt of two rows": other(prompt=np.zeros((2, 3), np.int32)),
            "a token outside of the vocabulary": other(prompt=np.array([1, vocab_size])),
            "a negative token": other(prompt=np.array([1, -1])),
            "a prompt of real numbers": other(prompt=np.array([1.5, 2.0])),
            "a prompt of words": other(prompt=["one", "two"]),
            "too large a budget": other(max_new_tokens=self.max_new_tokens + 1),
            "a negative budget": other(max_new_tokens=-1),
            "gaps": other(visible=np.ones(len(good.prompt), bool)),
            "an end outside of the vocabulary": other(eos=(vocab_size,)),
            "more ends than there is room": other(eos=tuple(range(50))),
            "too long a stop sequence": other(stop=([1] * 50,)),
            "unknown stop strings": other(stop_strings=("never heard of",)),
            "no samples": other(samples=0),
            "more samples than places": other(samples=4096),
            "a deadline in the past": other(deadline=-1),
            "no time": other(timeout=float("nan")),
            "an unknown setting": other(knobs={"warmth": 1.0}),
            "a setting out of range": other(knobs={knob: -1.0}),
            "a setting that is no number": other(knobs={knob: float("nan")}),
            "a priority that is no number": other(priority="high"),
            "a priority beyond integers": other(priority=2**40),
        }

    def _draw(self, number: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, number, purpose))
