"""Choosing the length of a gap by the model's own law of the text."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.any_subset import lattice, log_prob
from jaxdec.decoding import Decoder, integers, target_params
from jaxdec.generation.infill import infill
from jaxdec.generation.prepare import bucket
from jaxdec.model import Params
from jaxdec.sampling import as_array, as_key


@dataclasses.dataclass(frozen=True)
class ChosenLength:
    """What `choose_length` chose, and the scores that it chose by.

    Attributes:
      length: tokens in the gap.
      log_probs: by length, log p(fill, suffix | prefix); -inf where the model's law is not finite.
      tokens: int32 `[length]`, the gap as it was filled at that length.
    """

    length: int
    log_probs: dict[int, float]
    tokens: np.ndarray


def choose_length(
    decoder: Decoder,
    params: Params,
    prefix: jax.Array | np.ndarray,
    suffix: jax.Array | np.ndarray,
    lengths: Sequence[int],
    *,
    rng: jax.Array | int,
    prefix_tokens: int = 256,
    suffix_tokens: int = 64,
    **knobs: Any,
) -> ChosenLength:
    """Fills a gap at each of some lengths, and chooses the one whose text is most probable from left to right.

        n* = argmax_n log p(f_n, suffix | prefix),   f_n drawn from p(. | prefix, suffix) with a gap of n tokens

    Both laws are the model's: the fills are `infill` with the whole context visible, one ragged batch with a row a
    length; the scores are `any_subset.log_prob`, unwarped, in the order in which the prefix alone is visible, one
    forward. All candidates continue one prefix under one law, so the scores are, up to one constant, log posteriors of
    the completed text, and compare as they stand: a longer fill pays for each of its tokens and must earn it back
    in a suffix that follows better. The score is that of one fill, not a sum over all fills of a length.

    Every row has the key `rng` itself, not a fold of it: the j-th tokens of all fills are drawn with the same noise, so
    that candidates differ by their length rather than by luck, and the chosen fill is what `infill` gives for
    that row alone with the keys `rng[None]`.

    Args:
      decoder: over a model that answers queries, as for `infill`.
      params: parameters by part name: `{"target": ...}`, and those of further parts.
      prefix: int `[P]`, tokens before the gap, at least 1; only the last `prefix_tokens` are read.
      suffix: int `[S]`, tokens after the gap, at least 1; only the first `suffix_tokens` are read.
      lengths: candidates, different integers of at least 1. The first of the best is chosen.
      rng: one key or integer seed.
      prefix_tokens: bound on the prefix; the shipped models were trained with prefixes of up to 256.
      suffix_tokens: bound on the suffix.
      **knobs: settings of `jaxdec.sampling.Warp` for the fills.

    Raises:
      ValueError: for impossible arguments, or if the model's law is finite at no length.

    Exactness: the choice is the argmax over candidates of the very terms that sequential decoding from left to right
    would draw from.
    """
    lengths = tuple(integers("lengths", list(lengths), [(None,)]).tolist())
    if not lengths or min(lengths) < 1 or len(set(lengths)) < len(lengths):
        raise ValueError(f"lengths must be different integers of at least 1, got {lengths}")
    rng = as_key(rng)
    if rng.shape != ():
        raise ValueError(f"rng must be one key, got shape {rng.shape}")
    before = _checked("prefix", prefix, prefix_tokens)[-prefix_tokens:]
    after = _checked("suffix", suffix, suffix_tokens)[:suffix_tokens]

    starts = len(before) + np.array(lengths)  # of the suffix
    sizes = starts + len(after)
    places = np.arange(bucket(int(sizes.max())))  # other contexts and lengths reuse the programs
    in_prefix = np.broadcast_to(places < len(before), (len(lengths), len(places)))
    in_suffix = (places >= starts[:, None]) & (places < sizes[:, None])
    tokens = np.zeros(in_suffix.shape, np.int32)
    tokens[in_prefix] = np.tile(before, len(lengths))
    tokens[in_suffix] = np.tile(after, len(lengths))

    keys = jnp.broadcast_to(rng, (len(lengths),))
    filled = infill(decoder, params, tokens, in_prefix | in_suffix, sizes=sizes, rng=keys, **knobs)
    order = lattice(in_prefix, sizes)
    terms = log_prob(decoder.model, target_params(params), filled.tokens, order)
    complete = np.asarray(filled.known).sum(1) == sizes
    scores = np.where(complete, np.asarray(terms, np.float64).sum(1), -np.inf)
    scores = np.where(np.isnan(scores), -np.inf, scores)
    best = int(np.argmax(scores))
    if scores[best] == -np.inf:
        raise ValueError(f"no length of {lengths} has a finite law: {filled.status}")
    return ChosenLength(
        lengths[best],
        dict(zip(lengths, scores.tolist(), strict=True)),
        np.asarray(filled.tokens)[best, len(before) : starts[best]],
    )


def _checked(name: str, tokens: jax.Array | np.ndarray, limit: int) -> np.ndarray:
    tokens = np.asarray(as_array(name, tokens, "one row of tokens"))
    if limit < 1:
        raise ValueError(f"{name}_tokens must be at least 1, got {limit}")
    if tokens.ndim != 1 or not tokens.size:
        raise ValueError(f"{name} must be one row of at least 1 token, got {list(tokens.shape)}")
    if not np.issubdtype(tokens.dtype, np.integer):
        raise ValueError(f"{name} must hold integer tokens, got {tokens.dtype}")
    return tokens
