"""What the cases about canvases share: prompts, decoders that write bytes, and what the text is worth."""

import math
import statistics
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.columns import Row
from benchmarks.fills import entropy
from benchmarks.scoring import log_probs
from benchmarks.setting import Setting
from benchmarks.workload import Prompts, Variant, Workload, prompts
from jaxdec import text
from jaxdec.catalogue import Parts
from jaxdec.checkpoints import Checkpoint
from jaxdec.decoding import Decoder
from jaxdec.generation import Result
from jaxdec.measuring.comparison import identical, new_tokens

Knobs = Mapping[str, float]
BLOCK = 32
"""Positions of a block, for a target that was not trained on blocks."""
BLANKS = tuple(b" \t\n\r")
"""White space, as bytes."""
QUALITY = (
    "*bits/byte*: of what was written, under the law of a causal model that judges, given the prompt and the text so "
    "far. *entropy*: of the byte frequencies of one text, in bits, the mean over texts: it falls where a text repeats "
    "itself, which bits alone reward. *distinct*: different 4-grams of a text "
    "over all of them. *blanks*: the share of bytes that are white space. "
)
GRAM = 4
"""Bytes of the n-grams that are counted."""


def split(setting: Setting, count: int, length: int) -> tuple[Prompts, np.ndarray]:
    """Held-out windows of `length` bytes: first halves as prompts, and the second halves `[N, length // 2]`."""
    half = length // 2
    windows = prompts(setting.corpus.held_out, count, length, length).tokens
    held = Prompts(windows[:, :half], np.full(len(windows), half))
    return held, windows[:, half:]


class Judge:
    """What texts are worth to the causal model that judges; it is not the one that wrote them."""

    def __init__(self, setting: Setting, held: Prompts):
        self._judge, self._prompts = setting.draft, held.tokens

    def bits(self, written: np.ndarray) -> np.ndarray:
        """Bits a byte of each text of `[N, n]`, given its prompt."""
        tokens = jnp.asarray(np.concatenate([self._prompts, written], axis=1))
        terms = log_probs(self._judge.model, self._judge.params, tokens)
        return -np.asarray(terms[:, -written.shape[1] :].mean(1)) / math.log(2)

    def worth(
        self,
        written: np.ndarray,
        baseline: np.ndarray | None = None,
        twin: np.ndarray | None = None,
    ) -> Row:
        """Quality of all texts; where there is a baseline, how much worse they are and how sure that is.

        Args:
          written: the texts, `[N, n]`.
          baseline: texts of the same prompts that they are held against.
          twin: those that they may be identical to, the baseline if not given.
        """
        bits = self.bits(written)
        found = {
            "bits_per_byte": float(bits.mean()),
            "bits_error": _error(bits),
            "entropy": _varied(written),
            "distinct": _distinct(written),
            "blanks": _blanks(written),
        }
        if baseline is None:
            return found
        expected = self.bits(baseline)
        varied, twin = _varied(baseline), baseline if twin is None else twin
        return {
            **found,
            "worse": float(bits.mean() / expected.mean() - 1),
            "worse_error": _error(bits - expected) / float(expected.mean()),
            "less_varied": 1 - found["entropy"] / varied if varied else 0.0,
            "identical": identical(list(written), list(twin)),
            "identical_rows": float((written == twin).all(1).mean()),
        }


def _varied(written: np.ndarray) -> float:
    """Entropy of the bytes of a text, the mean over texts."""
    return statistics.fmean(entropy(bytes(row.tolist())) for row in written)


def _distinct(written: np.ndarray) -> float:
    """Different n-grams of a text over all of them, the mean over texts; 1 for texts that are too short for two."""
    size = min(GRAM, written.shape[1])
    grams = np.lib.stride_tricks.sliding_window_view(written, size, axis=1)
    return statistics.fmean(len(np.unique(row, axis=0)) / len(row) for row in grams)


def _blanks(written: np.ndarray) -> float:
    """The share of bytes that are white space."""
    return float(np.isin(written, BLANKS).mean())


def _error(values: np.ndarray) -> float:
    """The standard error of a mean."""
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def parts(
    target: Checkpoint,
    refresh: str,
    block: int | None = None,
    length: int | None = None,
    *,
    whole: bool = False,
):
    """What a decoder of a canvas is made of: block-causal for a checkpoint that fills blocks; whole, without blocks."""
    return Parts(
        target=target.model,
        length=length,
        block=None if whole else block or target.block_size or BLOCK,
        causal=target.fills == "blocks",
        refresh=refresh,
    )


def variant_of(
    setting: Setting, name: str, decoder: Decoder, about: str = "", knobs: Knobs | None = None
) -> Variant:
    """A decoder that writes bytes alone."""
    target = setting.target
    banned = np.arange(target.model.vocab_size) >= text.BOS
    own = {**(knobs or {}), "banned": banned}
    return Variant(name, decoder, {"target": target.params}, about=about, knobs=own)


def decode(variant: Variant, workload: Workload) -> tuple[list[Result], np.ndarray]:
    """The results, and the new tokens `[N, n]`."""
    timing = workload.method(variant)
    decoded = jax.block_until_ready(timing.work(timing.setup()))
    return decoded, np.stack(new_tokens(decoded))
