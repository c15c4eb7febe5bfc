"""The one logits pipeline: from the raw logits of a model to the law that tokens are drawn from.

Plain decoding, drafting, verification and reported log-probabilities all call `Warp.log_probs`, so
that they cannot disagree about the law. One order holds everywhere:

  bias and bans -> repetition -> presence and frequency -> temperature
    -> top-k -> top-p -> min-p -> typical -> epsilon -> top-h

and each truncating filter reads the law renormalised after the filters before it.

Legend: B batch, V vocabulary, P prompt width, T tokens added, N nodes of a draft tree.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdec.sampling.noise import gumbel


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class History:
    """Token counts that the penalties read.

    Attributes:
      prompt: int32 `[B, V]`, how often each token stands in the prompt.
      generated: int32 `[B, ..., V]`, how often each token was generated; the middle axes, if any,
        are those of the logits.
    """

    prompt: jax.Array
    generated: jax.Array

    @classmethod
    def start(cls, tokens: jax.Array, lengths: jax.Array, vocab_size: int) -> "History":
        """Counts the tokens of the prompts; nothing is generated yet.

          prompt[b, v] = #{ i < lengths[b] : tokens[b, i] = v }

        Args:
          tokens: int32 `[B, P]`, prompts with their padding on the right.
          lengths: int32 `[B]`, tokens of each prompt.
          vocab_size: V.

        Returns:
          Counts with `prompt` and `generated` of shape `[B, V]`.
        """
        zeros = jnp.zeros((tokens.shape[0], vocab_size), jnp.int32)
        valid = jnp.arange(tokens.shape[1]) < lengths[:, None]
        return cls(_count(zeros, tokens, valid), zeros)

    def add(self, tokens: jax.Array, valid: jax.Array) -> "History":
        """Counts newly generated tokens.

          generated'[b, v] = generated[b, v] + #{ t : valid[b, t] and tokens[b, t] = v }

        Args:
          tokens: int32 `[B, T]`; ids outside the vocabulary are ignored.
          valid: bool `[B, T]`, True = count this token.

        Returns:
          A history of the same shapes.

        Raises:
          ValueError: if the generated counts are not `[B, V]`, for example after `along`.
        """
        self._check_flat("add")
        return dataclasses.replace(self, generated=_count(self.generated, tokens, valid))

    def along(self, tokens: jax.Array, ancestors: jax.Array) -> "History":
        """Counts as each node of a draft tree sees them.

          generated'[b, n, v] = generated[b, v] + sum_m ancestors[b, n, m] [tokens[b, m] = v]

        Leave a root that `add` has counted already out of `ancestors`, or it counts twice.

        Args:
          tokens: int32 `[B, N]`, the token of each node; ids outside the vocabulary are ignored.
          ancestors: bool `[B, N, N]`, True where token m counts at node n (ancestor or self).

        Returns:
          A history whose `generated` is `[B, N, V]`, for logits `[B, N, V]`.

        Raises:
          ValueError: if the generated counts are not `[B, V]`.
        """
        self._check_flat("along")
        # Factors of 0 and 1 are exact at any matmul precision; float32 sums of them are too.
        one_hot = jax.nn.one_hot(tokens, self.generated.shape[-1], dtype=jnp.float32)
        path = jnp.einsum("bnm,bmv->bnv", ancestors.astype(jnp.float32), one_hot)
        return dataclasses.replace(
            self, generated=self.generated[:, None, :] + path.astype(jnp.int32)
        )

    def _check_flat(self, method: str) -> None:
        if self.generated.ndim != 2:
            raise ValueError(
                f"History.{method} needs generated counts [B, V], got {self.generated.shape}"
            )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Warp:
    """Settings of the logits pipeline.

    A knob of None leaves its stage out of the compiled program; any other value is traced, either
    one for all rows or one per row `[B]`. Changing a value never compiles again. The `off` value of
    a knob is an exact identity, so that rows with and without a stage can share a batch.

    Attributes:
      temperature: T >= 0, logits / T; 1 = off. A row with T = 0 is greedy: all mass on the
        lowest-index argmax of its penalised logits, whatever the filters.
      top_k: k >= 0, keeps exactly the k most probable tokens, lower indices first among equals;
        0 = off.
      top_p: in (0, 1], keeps a token iff the mass of those ranked before it is < top_p; 1 = off.
      min_p: in [0, 1], keeps p_v >= min_p max_u p_u; 0 = off.
      typical: in (0, 1], ranks tokens by |-log p_v - H| and keeps one iff the mass ranked before it
        is < typical; 1 = off. The most probable token need not be typical: it may be removed.
      epsilon: in [0, 1), keeps p_v >= epsilon and the argmax; 0 = off.
      top_h: in (0, 1], keeps the longest prefix of the ranked tokens whose renormalised entropy is
        <= top_h H(p), and the argmax; 1 = off.
      repetition_penalty: r > 0, prompt and generated tokens: l / r if l > 0, else l r; 1 = off.
      presence_penalty: a, generated tokens: l - a; 0 = off.
      frequency_penalty: f, generated tokens: l - f count; 0 = off.
      logit_bias: `[V]` or `[B, V]`, added to the logits; 0 = off, -inf bans a token.
      banned: bool `[V]` or `[B, V]`, True = never emitted; all False = off.

    Reference:
      top-p arXiv:1904.09751; locally typical arXiv:2202.00666; min-p arXiv:2407.01082; epsilon
      arXiv:2210.15191; repetition penalty (CTRL) arXiv:1909.05858; top-h: "Top-H Decoding", the
      rule of the paper on the law after temperature, over the whole vocabulary.
    """

    temperature: ArrayLike | None = None
    top_k: ArrayLike | None = None
    top_p: ArrayLike | None = None
    min_p: ArrayLike | None = None
    typical: ArrayLike | None = None
    epsilon: ArrayLike | None = None
    top_h: ArrayLike | None = None
    repetition_penalty: ArrayLike | None = None
    presence_penalty: ArrayLike | None = None
    frequency_penalty: ArrayLike | None = None
    logit_bias: ArrayLike | None = None
    banned: ArrayLike | None = None

    def validate(self, batch: int, vocab_size: int) -> "Warp":
        """Checks every knob and returns a copy in canonical types and shapes. Not for use in jit.

        Args:
          batch: B.
          vocab_size: V.

        Returns:
          A copy whose scalar knobs are `[B]` (float32; top_k int32) and whose tables `logit_bias`
          (float32) and `banned` (bool) are `[B, V]`. None stays None.

        Raises:
          ValueError: if a knob has a wrong type, shape or value (NaN is one), or if every token of
            a row is banned. The message names the knob, the value and the limit.
        """
        arrays = {}
        for name, (allowed, limit) in _LIMITS.items():
            knob = getattr(self, name)
            if knob is not None:
                arrays[name] = _checked_knob(name, knob, allowed, limit, batch)
        for name in ("logit_bias", "banned"):
            table = getattr(self, name)
            if table is not None:
                arrays[name] = _checked_table(name, table, batch, vocab_size)
        removed = arrays.get("banned", False) | (arrays.get("logit_bias", 0.0) == -np.inf)
        full = np.all(removed, axis=-1)
        if np.any(full):
            name = "banned" if self.banned is not None else "logit_bias"
            raise ValueError(
                f"{name}: all {vocab_size} tokens of row {np.argmax(full)} are banned, "
                "must leave at least 1"
            )
        return Warp(**{name: jnp.asarray(array) for name, array in arrays.items()})

    @property
    def needs_history(self) -> bool:
        """Whether a penalty is present, so that `log_probs` needs token counts. Static."""
        penalties = (self.repetition_penalty, self.presence_penalty, self.frequency_penalty)
        return any(penalty is not None for penalty in penalties)

    @property
    def plain(self) -> bool:
        """Whether nothing but temperature and bans is present. Static."""
        stages = {field.name for field in dataclasses.fields(self)} - {"temperature", "banned"}
        return all(getattr(self, name) is None for name in stages)

    def plain_knobs(self, batch: int) -> tuple[jax.Array, jax.Array | None]:
        """The temperature `[B]` and the banned tokens `[B, V]` or None, for operations that know no other stage."""
        temperature = 1.0 if self.temperature is None else self.temperature
        banned = None if self.banned is None else jnp.asarray(self.banned)
        return jnp.broadcast_to(temperature, (batch,)), banned

    def log_probs(self, logits: jax.Array, history: History | None = None) -> jax.Array:
        """The log-probabilities that tokens are drawn from.

          log p = log softmax(where(kept, penalised / T, -inf))

        Args:
          logits: `[B, ..., V]`, any float type; -inf marks impossible tokens. Middle axes share the
            knobs of their row.
          history: counts, needed iff `needs_history`; `generated` is `[B, V]` or has (leading)
            middle axes of `logits`.

        Returns:
          float32 `[B, ..., V]`, normalised, -inf for removed tokens. Laws whose logits hold NaN or
          +inf, or have no token left, are NaN throughout: the caller turns this into a status.

        Raises:
          ValueError: if a penalty is present and `history` is not given.
        """
        logits = jnp.asarray(logits, jnp.float32)
        # Tested before bans, which would hide a broken model behind a legal law. The sum is NaN or infinite iff a
        # logit is NaN or +inf, or none is finite; callers want the same sum for raw log-probabilities.
        broken = ~jnp.isfinite(jax.nn.logsumexp(logits, axis=-1, keepdims=True))
        logits = self.penalised(logits, history)
        top = jnp.max(logits, axis=-1, keepdims=True)
        broken |= ~jnp.isfinite(top)

        tempered, greedy = logits, None
        if self.temperature is not None:
            temperature = _rows(self.temperature, logits.ndim)
            # Subnormal temperatures count as 0, since some devices flush them.
            greedy = temperature < jnp.finfo(jnp.float32).tiny
            # Shifted first: a small temperature then sends logits to -inf, never to +inf.
            tempered = (logits - top) / jnp.where(greedy, 1.0, temperature)

        # One softmax of the masked logits, not a chain of renormalisations: a filter that removes
        # nothing then changes no bit of the result.
        log_probs = jax.nn.log_softmax(jnp.where(self._kept(logits, tempered), tempered, -jnp.inf))
        if greedy is not None:
            log_probs = jnp.where(greedy, jnp.where(_is_argmax(logits), 0.0, -jnp.inf), log_probs)
        return jnp.where(broken, jnp.nan, log_probs)

    def noise(self, keys: Callable[[], jax.Array], shape: tuple[int, ...]) -> jax.Array:
        """Gumbel noise to draw from `log_probs` with; neither keys nor noise are computed while no row samples.

        Args:
          keys: makes the keys `shape[:-1]`.
          shape: `[B, ..., V]`.

        Returns:
          float32 of that shape; zeros if every temperature is 0, where the law is one-hot and noise decides nothing.
        """
        draw = lambda: gumbel(keys(), shape[-1])
        if self.temperature is None:
            return draw()
        sampled = jnp.any(jnp.asarray(self.temperature) > 0)
        return jax.lax.cond(sampled, draw, lambda: jnp.zeros(shape, jnp.float32))

    def penalised(self, logits: jax.Array, history: History | None = None) -> jax.Array:
        """Logits `[B, ..., V]` after every stage before the temperature; arguments as for `log_probs`."""
        ndim = logits.ndim
        if self.logit_bias is not None:
            logits = logits + _table(self.logit_bias, ndim)
        if self.banned is not None:
            logits = jnp.where(_table(self.banned, ndim), -jnp.inf, logits)
        if not self.needs_history:
            return logits
        if history is None:
            raise ValueError("a penalty is set: log_probs needs the history it reads, got None")
        generated = _table(history.generated, ndim)
        if self.repetition_penalty is not None:
            seen = _table(history.prompt, ndim) + generated > 0
            logits = _repetition(logits, seen, _rows(self.repetition_penalty, ndim))
        if self.presence_penalty is not None:
            logits = logits - _rows(self.presence_penalty, ndim) * (generated > 0)
        if self.frequency_penalty is not None:
            logits = logits - _rows(self.frequency_penalty, ndim) * generated
        return logits

    def _kept(self, logits: jax.Array, tempered: jax.Array) -> jax.Array:
        """Which tokens every filter keeps, bool `[B, ..., V]`."""
        present = [name for name in _FILTERS if getattr(self, name) is not None]
        order = None
        if any(name not in _UNRANKED for name in present):
            # Ranked by the logits before temperature, whose division could merge distinct values.
            _, tempered, order = jax.lax.sort(
                (-logits, tempered, _ranks(logits)), num_keys=1, is_stable=True
            )
        for name in present:
            log_probs = jax.nn.log_softmax(tempered)
            keep = _FILTERS[name](log_probs, _rows(getattr(self, name), logits.ndim))
            tempered = jnp.where(keep, tempered, -jnp.inf)
        kept = tempered > -jnp.inf
        return kept if order is None else _unsorted(kept, order)


def _repetition(logits: jax.Array, seen: jax.Array, penalty: jax.Array) -> jax.Array:
    """Divides positive and multiplies negative logits of seen tokens by the penalty."""
    scaled = jnp.where(logits > 0, logits / penalty, logits * penalty)
    # -inf stays as it is: a penalty flushed to 0 would make it NaN.
    return jnp.where(seen & (logits > -jnp.inf), scaled, logits)


# The filters. Each takes log-probabilities [B, ..., V] in descending order, with -inf for tokens
# that earlier filters removed, and a knob that broadcasts to them; it returns a keep mask.


def _top_k(log_probs: jax.Array, k: jax.Array) -> jax.Array:
    """Keeps rank < k."""
    return (_ranks(log_probs) < k) | (k <= 0)


def _top_p(log_probs: jax.Array, top_p: jax.Array) -> jax.Array:
    """Keeps while the mass strictly before is < top_p."""
    return _prefix(_mass_before(jnp.exp(log_probs)) < top_p) | (top_p >= 1)


def _min_p(log_probs: jax.Array, min_p: jax.Array) -> jax.Array:
    """Keeps p >= min_p max p."""
    return log_probs >= jnp.max(log_probs, axis=-1, keepdims=True) + jnp.log(min_p)


def _typical(log_probs: jax.Array, mass: jax.Array) -> jax.Array:
    """Keeps, in order of |-log p - H|, while the mass strictly before is < mass."""
    probs = jnp.exp(log_probs)
    entropy = jnp.sum(_surprise(log_probs, probs), axis=-1, keepdims=True)
    _, probs, order = jax.lax.sort(
        (jnp.abs(-log_probs - entropy), probs, _ranks(log_probs)), num_keys=1, is_stable=True
    )
    return _unsorted(_prefix(_mass_before(probs) < mass), order) | (mass >= 1)


def _epsilon(log_probs: jax.Array, epsilon: jax.Array) -> jax.Array:
    """Keeps p >= epsilon, and the argmax."""
    return (log_probs >= jnp.log(epsilon)) | _is_argmax(log_probs)


def _top_h(log_probs: jax.Array, alpha: jax.Array) -> jax.Array:
    """Keeps the ranks k with H_k <= alpha H, and the argmax.

    H_k is the entropy of the first k tokens renormalised: with s_k and e_k the sums of p and of
    -p log p up to k, H_k = log s_k + e_k / s_k. It never falls as k grows, so that counting the
    ranks that pass finds the first that fails.
    """
    probs = jnp.exp(log_probs)
    mass = jnp.cumsum(probs, axis=-1)
    partial = jnp.cumsum(_surprise(log_probs, probs), axis=-1)
    # No mass yet where the typical filter removed the leading tokens.
    safe = jnp.where(mass > 0, mass, 1.0)
    prefix_entropy = jnp.log(safe) + partial / safe
    within = prefix_entropy <= alpha * partial[..., -1:]
    return _prefix(within) | _is_argmax(log_probs) | (alpha >= 1)


_FILTERS = {
    "top_k": _top_k,
    "top_p": _top_p,
    "min_p": _min_p,
    "typical": _typical,
    "epsilon": _epsilon,
    "top_h": _top_h,
}
_UNRANKED = ("min_p", "epsilon")  # These hold in any order and alone need no sort.


def _rows(knob: ArrayLike, ndim: int) -> jax.Array:
    """A scalar or `[B]` knob, shaped to broadcast against `[B, ..., V]` of `ndim` axes."""
    knob = jnp.asarray(knob)
    return knob.reshape(knob.shape + (1,) * (ndim - 1)) if knob.ndim else knob


def _table(table: ArrayLike, ndim: int) -> jax.Array:
    """`[V]`, or `[B, ..., V]` with axes of size 1 put before the last up to `ndim` axes."""
    table = jnp.asarray(table)
    if table.ndim <= 1:
        return table
    return table.reshape(table.shape[:-1] + (1,) * (ndim - table.ndim) + table.shape[-1:])


def _ranks(like: jax.Array) -> jax.Array:
    """0 .. V-1 along the last axis, int32 of the shape of `like`."""
    return jax.lax.broadcasted_iota(jnp.int32, like.shape, like.ndim - 1)


def _is_argmax(values: jax.Array) -> jax.Array:
    """True at the lowest-index maximum of `[..., V]`."""
    return _ranks(values) == jnp.argmax(values, axis=-1, keepdims=True)


def _prefix(within: jax.Array) -> jax.Array:
    """The ranks below the count of True, at least rank 0: free of holes left by rounding."""
    count = jnp.sum(within, axis=-1, keepdims=True)
    return _ranks(within) < jnp.maximum(count, 1)


def _mass_before(probs: jax.Array) -> jax.Array:
    """Sum of the probabilities at lower ranks, `[..., V]`."""
    # Shifted rather than cumsum - p: the subtraction would round a second time.
    before = jnp.cumsum(probs[..., :-1], axis=-1)
    return jnp.concatenate([jnp.zeros_like(probs[..., :1]), before], axis=-1)


def _surprise(log_probs: jax.Array, probs: jax.Array) -> jax.Array:
    """-p log p, with 0 log 0 = 0."""
    return jnp.where(probs > 0, -probs * log_probs, 0.0)


def _unsorted(values: jax.Array, order: jax.Array) -> jax.Array:
    """Undoes a sort: `result[..., order[..., i]] = values[..., i]`."""
    return jnp.put_along_axis(jnp.zeros_like(values), order, values, axis=-1, inplace=False)


def _count(counts: jax.Array, tokens: jax.Array, valid: jax.Array) -> jax.Array:
    """Counts `[B, V]` plus the valid tokens `[B, T]`."""
    vocab_size = counts.shape[-1]
    # Everything ignored goes to one index past the end, which the scatter drops; a negative id left
    # alone would wrap around.
    tokens = jnp.where(valid & (tokens >= 0), tokens, vocab_size)
    rows = jnp.arange(counts.shape[0])[:, None]
    return counts.at[rows, tokens].add(1, mode="drop")


_LIMITS = {
    "temperature": (lambda value: value >= 0, ">= 0 (0 = greedy, 1 = off)"),
    "top_k": (lambda value: value >= 0, "an integer >= 0 (0 = off)"),
    "top_p": (lambda value: (value > 0) & (value <= 1), "in (0, 1] (1 = off)"),
    "min_p": (lambda value: (value >= 0) & (value <= 1), "in [0, 1] (0 = off)"),
    "typical": (lambda value: (value > 0) & (value <= 1), "in (0, 1] (1 = off)"),
    "epsilon": (lambda value: (value >= 0) & (value < 1), "in [0, 1) (0 = off)"),
    "top_h": (lambda value: (value > 0) & (value <= 1), "in (0, 1] (1 = off)"),
    "repetition_penalty": (lambda value: value > 0, "> 0 (1 = off)"),
    "presence_penalty": (lambda value: value == value, "finite (0 = off)"),
    "frequency_penalty": (lambda value: value == value, "finite (0 = off)"),
}


def _checked_knob(name: str, knob: ArrayLike, allowed, limit: str, batch: int) -> np.ndarray:
    """The knob as `[B]` float32, or int32 for top_k, if it is within its limits."""
    array = np.asarray(knob)
    integer = name == "top_k"
    if not (jnp.issubdtype(array.dtype, jnp.integer) if integer else _is_real(array)):
        raise ValueError(f"{name}: got {knob!r} of type {array.dtype}, must be {limit}")
    if array.shape not in ((), (batch,)):
        raise ValueError(f"{name}: got shape {array.shape}, must be a scalar or ({batch},)")
    # Tested after rounding to the type that will be used; a k cut here keeps every token anyway.
    rounded = np.minimum(array, np.iinfo(np.int32).max) if integer else _float32(array)
    _raise_at_first(name, array, np.isfinite(rounded) & allowed(rounded), limit)
    return np.broadcast_to(rounded.astype(np.int32) if integer else rounded, (batch,))


def _checked_table(name: str, table: ArrayLike, batch: int, vocab_size: int) -> np.ndarray:
    """The table as `[B, V]`, bool for `banned` and float32 otherwise, if it is legal."""
    array = np.asarray(table)
    if name == "banned" and array.dtype != bool:
        raise ValueError(f"{name}: got type {array.dtype}, must be bool")
    if name != "banned" and not _is_real(array):
        raise ValueError(f"{name}: got type {array.dtype}, must be real numbers")
    if array.shape not in ((vocab_size,), (batch, vocab_size)):
        raise ValueError(
            f"{name}: got shape {array.shape}, must be ({vocab_size},) or ({batch}, {vocab_size})"
        )
    if name != "banned":
        given, array = array, _float32(array)
        _raise_at_first(name, given, array < np.inf, "finite or -inf (0 = off)")
    return np.broadcast_to(array, (batch, vocab_size))


def _is_real(array: np.ndarray) -> bool:
    """Whether the type is an integer or a float, bfloat16 among them."""
    return jnp.issubdtype(array.dtype, jnp.integer) or jnp.issubdtype(array.dtype, jnp.floating)


def _float32(array: np.ndarray) -> np.ndarray:
    """The array in float32; values out of its range become infinite without a warning."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _raise_at_first(name: str, given: np.ndarray, legal: np.ndarray, limit: str) -> None:
    """Raises, showing the value as it was given, at the first entry that is not legal."""
    if not np.all(legal):
        place = tuple(int(i) for i in np.argwhere(~legal)[0])
        where = f" at {list(place)}" if place else ""
        raise ValueError(f"{name}: got {given[place]!s}{where}, must be {limit}")
