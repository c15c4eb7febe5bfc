"""What is decoded, and by what: held-out prompts, decoders with their parameters, and the facts of a decode."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import text
from jaxdec.decoding import Decoder
from jaxdec.generation import Result, prepare, prepare_infill
from jaxdec.measuring.comparison import decoding, new_tokens
from jaxdec.measuring.timing import Method
from jaxdec.model import Model
from jaxdec.sampling import row_keys
from jaxdec.training.corpus import Source

SHORTEST, LONGEST = 129, 256  # one bucket of widths, so that all prompts share a program


@dataclasses.dataclass(frozen=True)
class Prompts:
    """Windows of text.

    Attributes:
      tokens: int32 `[N, longest]`, right-padded.
      lengths: int32 `[N]`.
    """

    tokens: np.ndarray
    lengths: np.ndarray

    def __getitem__(self, rows: slice) -> "Prompts":
        return Prompts(self.tokens[rows], self.lengths[rows])

    def __len__(self) -> int:
        return len(self.tokens)


def prompts(
    sources: tuple[Source, ...], count: int, shortest: int = SHORTEST, longest: int = LONGEST
) -> Prompts:
    """Windows from the middle of files, in the files' order; a file gives a second one only after all gave one.

    Each starts with a line and is cut anywhere; the lengths spread over [shortest, longest].

    Raises:
      ValueError: if no file is long enough.
    """
    long = [source.content for source in sources if len(source.content) >= 4 * longest]
    if not long:
        raise ValueError(f"no file of at least {4 * longest} bytes among {len(sources)}")
    rounds = -(-count // len(long))
    tokens = np.full((count, longest), text.PAD, np.int32)
    lengths = shortest + np.arange(count) * 37 % (longest - shortest + 1)
    for row, length in enumerate(lengths):
        content = long[row % len(long)]
        middle = len(content) * (row // len(long) + 1) // (rounds + 1)
        start = min(content.find(b"\n", middle) + 1, len(content) - longest)
        tokens[row, :length] = text.to_ids(content[start : start + length])
    return Prompts(tokens, lengths)


@dataclasses.dataclass(frozen=True)
class Gaps:
    """Windows of text with masked positions.

    Attributes:
      tokens: int32 `[N, L]`.
      visible: bool `[N, L]`.
      sizes: int `[N]`, positions of each; all L if not given. Past them everything is visible.
    """

    tokens: np.ndarray
    visible: np.ndarray
    sizes: np.ndarray | None = None

    def __getitem__(self, rows: slice) -> "Gaps":
        sizes = None if self.sizes is None else self.sizes[rows]
        return Gaps(self.tokens[rows], self.visible[rows], sizes)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def masked(self) -> np.ndarray:
        """Masked positions of each row, int `[N]`."""
        return (~self.visible).sum(1)

    def filled(self, results: list[Result]) -> np.ndarray:
        """The windows with the tokens that were decoded for them, left to right in each."""
        tokens = self.tokens.copy()
        tokens[~self.visible] = np.concatenate(new_tokens(results))
        return tokens


def gaps(sources: tuple[Source, ...], count: int, length: int, rate: float) -> Gaps:
    """Windows from the middle of files, the share `rate` of whose bytes is masked one by one.

    Raises:
      ValueError: if no file is long enough.
    """
    long = [source.content for source in sources if len(source.content) >= 4 * length]
    if not long:
        raise ValueError(f"no file of at least {4 * length} bytes among {len(sources)}")
    generator = np.random.default_rng(0)
    rounds = -(-count // len(long))
    left = max(length - round(rate * length), 1)
    tokens = np.zeros((count, length), np.int32)
    visible = np.zeros((count, length), bool)
    for row in range(count):
        content = long[row % len(long)]
        start = len(content) * (row // len(long) + 1) // (rounds + 1)
        start = min(start, len(content) - length)
        tokens[row] = text.to_ids(content[start : start + length])
        visible[row, generator.permutation(length)[:left]] = True
    return Gaps(tokens, visible)


@dataclasses.dataclass(frozen=True)
class Variant:
    """A decoder under test.

    Attributes:
      name: how rows call it.
      decoder: the algorithm.
      params: of its parts.
      length: drafts a step.
      about: what a control should show, or how the method came about.
      knobs: settings of prompts' requests that are its own: those that the decoder declares, or of the sampling.
    """

    name: str
    decoder: Decoder
    params: Any
    length: int = 0
    about: str = ""
    knobs: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Workload:
    """What every method of a comparison decodes: the prompts in groups of `batch`, one group after another.

    Unless `eos` says otherwise nothing ends a text, so that every method gives the same number of tokens. Windows with
    gaps are filled whole, whatever `new_tokens` says, and with bytes alone unless the variant says what is banned.
    """

    prompts: Prompts | Gaps
    batch: int
    new_tokens: int
    temperature: float
    eos: tuple[int, ...] = ()

    def requests(self, variant: Variant) -> list[Any]:
        """One request a group."""
        starts = range(0, len(self.prompts), self.batch)
        return [self._request(variant, self.prompts[a : a + self.batch]) for a in starts]

    def _request(self, variant: Variant, held: Prompts | Gaps) -> Any:
        if isinstance(held, Gaps):
            return prepare_infill(
                variant.decoder,
                variant.params,
                held.tokens,
                held.visible,
                sizes=held.sizes,
                temperature=self.temperature,
                **{"banned": self.banned(variant.decoder.model), **variant.knobs},
            )
        return prepare(
            variant.decoder,
            variant.params,
            held.tokens,
            lengths=held.lengths,
            max_new_tokens=self.new_tokens,
            temperature=self.temperature,
            eos=self.eos,
            **variant.knobs,
        )

    def banned(self, model: Model) -> np.ndarray:
        """All but bytes, bool `[V]`."""
        return np.arange(model.vocab_size) >= text.BOS

    def keys(self) -> list[jax.Array]:
        """Row keys of each group; a prompt has the same key at every batch size."""
        count = len(self.prompts)
        keys = row_keys(jax.random.key(0), count)
        return [keys[start : start + self.batch] for start in range(0, count, self.batch)]

    def method(self, variant: Variant) -> Method:
        """Decoding as a timed method: the prompts are read in the set-up, the loops are the work."""
        requests, keys = self.requests(variant), self.keys()
        return decoding(variant.name, variant.decoder, variant.params, requests, keys)


def nbytes(tree: Any) -> int:
    """Bytes of all arrays (or their shapes) in a tree."""
    return sum(x.size * jnp.dtype(x.dtype).itemsize for x in jax.tree.leaves(tree))
