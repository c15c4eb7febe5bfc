"""Fills of gaps, and what each is worth: the true text, Python, tests that pass, bits under the target's law."""

import collections
import dataclasses
import math
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

import jaxdec
from benchmarks import sandbox
from benchmarks.columns import Row
from benchmarks.humaneval import Problem, batch, parses
from benchmarks.sandbox import Verdict
from benchmarks.workload import Variant
from jaxdec import any_subset, text
from jaxdec.measuring import machine
from jaxdec.measuring.comparison import identical
from jaxdec.model import Model, Params
from jaxdec.sampling import row_keys


def describe(variant: Variant, temperature: float) -> Row:
    """What was decoded with."""
    return {
        "method": variant.name,
        "about": variant.about,
        "exactness": variant.decoder.exactness.value,
        "temperature": temperature,
        "draft_length": variant.length,
    }


def agreement(fills: Sequence[bytes], expected: Sequence[bytes]) -> Row:
    """The share of bytes, and the number of texts, that are those of the baseline."""
    arrays = ([text.to_ids(fill) for fill in each] for each in (fills, expected))
    return {
        "identical": identical(*arrays),
        "identical_rows": sum(map(bytes.__eq__, fills, expected)),
    }


def fill(
    variant: Variant, problems: Sequence[Problem], rows: int, temperature: float
) -> tuple[list[bytes], Row]:
    """Fills the gap of each problem, `rows` of them at once; a problem has the same key in every call.

    Returns:
      The texts, and counts over them.

    Raises:
      RuntimeError: if a row ended before its gap was full.
    """
    keys = row_keys(jax.random.key(0), -(-len(problems) // rows) * rows)
    banned = np.arange(variant.decoder.model.vocab_size) >= text.BOS  # bytes alone
    fills: list[bytes] = []
    totals: collections.Counter[str] = collections.Counter()
    for start in range(0, len(problems), rows):
        held = batch(problems[start : start + rows], rows)
        filled = jaxdec.infill(
            variant.decoder,
            variant.params,
            held.tokens,
            held.visible,
            sizes=held.sizes,
            rng=keys[start : start + rows],
            temperature=temperature,
            banned=banned,
        )
        if any(status is not jaxdec.Status.LENGTH for status in filled.status):
            raise RuntimeError(f"{variant.name} left a gap open: {filled.status}")
        fills += held.fills(np.asarray(filled.tokens))
        for field in dataclasses.fields(filled.stats):
            totals[field.name] += int(getattr(filled.stats, field.name)[: held.count].sum())
    size = sum(map(len, fills))
    return fills, {
        "bytes": size,
        **totals,
        "forwards_per_byte": totals["target_forwards"] / size,
        "rows_per_byte": totals["target_rows"] / size,
        "draft_forwards_per_byte": totals["draft_forwards"] / size,
        "acceptance": totals["accepted"] / totals["proposed"] if totals["proposed"] else None,
    }


@dataclasses.dataclass(frozen=True)
class Score:
    """What one fill is worth.

    Attributes:
      exact: whether it is the true text.
      parses: whether the filled file is Python.
      verdict: of the function's own tests.
      bits: -log2 of its probability under the target's own law, given the context.
      length: in bytes.
      entropy: of its bytes; see `entropy`.
    """

    exact: bool
    parses: bool
    verdict: Verdict
    bits: float
    length: int
    entropy: float


class Scorer:
    """Scores fills, each text of a problem once: what two methods have in common is not run again."""

    def __init__(self, model: Model, params: Params, rows: int):
        self._model, self._params, self._rows = model, params, rows
        self._known: dict[tuple[str, bytes], Score] = {}

    def __call__(self, problems: Sequence[Problem], fills: Sequence[bytes]) -> list[Score]:
        """The score of each fill of a problem."""
        keys = [(problem.name, fill) for problem, fill in zip(problems, fills, strict=True)]
        fresh = {
            key: problem
            for key, problem in zip(keys, problems, strict=True)
            if key not in self._known
        }
        pairs = [(problem, fill) for (_, fill), problem in fresh.items()]
        whole = [parses(problem.filled(fill)) for problem, fill in pairs]
        with ThreadPoolExecutor(machine.cores()) as pool:
            verdicts = list(pool.map(self._verdict, pairs, whole))
        for (problem, fill), sound, verdict, bits in zip(
            pairs, whole, verdicts, self._bits(pairs), strict=True
        ):
            self._known[problem.name, fill] = Score(
                exact=fill == problem.gap,
                parses=sound,
                verdict=verdict,
                bits=bits,
                length=len(fill),
                entropy=entropy(fill),
            )
        return [self._known[key] for key in keys]

    def _verdict(self, pair: tuple[Problem, bytes], sound: bool) -> Verdict:
        """Of the function's own tests; a file that is no Python fails, whatever its tests would make of it."""
        problem, fill = pair
        if not sound:
            return Verdict.FAILED
        return sandbox.run(problem.program(fill)).verdict

    def _bits(self, pairs: Sequence[tuple[Problem, bytes]]) -> list[float]:
        """-log2 of the probability of each fill."""
        found: list[float] = []
        for start in range(0, len(pairs), self._rows):
            problems, fills = zip(*pairs[start : start + self._rows], strict=True)
            held = batch(problems, self._rows)
            order = any_subset.lattice(held.visible, held.sizes)
            tokens = held.filled(fills)
            terms = any_subset.log_prob(self._model, self._params, tokens, order)
            found += (-np.asarray(terms.sum(1))[: held.count] / math.log(2)).tolist()
        return found


def entropy(fill: bytes) -> float:
    """Entropy of the byte frequencies of one text, in bits: 0 if all are alike, log2 of its length if all differ.

    As in 2504.20456 it is taken of each text by itself: it falls where a decoder repeats itself.
    """
    shares = [count / len(fill) for count in collections.Counter(fill).values()]
    return -sum(share * math.log2(share) for share in shares)


def summary(scores: Sequence[Score]) -> Row:
    """Means over the problems; bits by byte of all fills together."""
    verdicts = collections.Counter(score.verdict for score in scores)
    return {
        "exact": statistics.fmean(score.exact for score in scores),
        "parses": statistics.fmean(score.parses for score in scores),
        "passes": verdicts[Verdict.PASSED] / len(scores),
        "verdicts": {verdict.value: verdicts[verdict] for verdict in Verdict},
        "bits_per_byte": sum(score.bits for score in scores) / sum(s.length for s in scores),
        "entropy": statistics.fmean(score.entropy for score in scores),
    }
