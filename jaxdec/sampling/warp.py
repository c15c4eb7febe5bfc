"""The one logits pipeline: from the raw logits of a model to the law that tokens are drawn from.

Plain decoding, drafting, verification and reported log-probabilities all call `Warp.log_probs`, so
that they cannot disagree about the law. One order holds everywhere:

  bias and bans -> repeated n-grams -> bad words -> early ends -> constraint -> given tokens
    -> repetition -> presence and frequency -> green list -> temperature
    -> top-k -> top-p -> min-p -> typical -> epsilon -> top-h

and each truncating filter reads the law renormalised after the filters before it. Bans commute with one another and
with the penalties; a given token overrules them.

Legend: B batch, V vocabulary, P prompt width, T tokens added, N nodes of a draft tree, S words, K tokens of a word at
most, F given tokens, E ends.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdec.sampling.bans import bad_words, chosen, early_ends, given, repeated
from jaxdec.sampling.broadcast import by_row, by_token, each_row
from jaxdec.sampling.constraint import checked_constraint
from jaxdec.sampling.drawing import Drawing
from jaxdec.sampling.filters import FILTERS, kept_by
from jaxdec.sampling.filters.ranking import is_argmax
from jaxdec.sampling.history import History
from jaxdec.sampling.limits import Limit, checked_knob, checked_table, is_traced, over_rows
from jaxdec.sampling.penalties import penalised
from jaxdec.sampling.sequences import checked_sequence, checked_words
from jaxdec.sampling.text_before import NONE, TextBefore
from jaxdec.sampling.watermarks.contract import checked_watermark
from jaxdec.sampling.watermarks.green_list import GreenList

_ANY = Limit(lambda value: value == value, "finite (0 = off)")
_COUNT = Limit(lambda value: value >= 0, "an integer >= 0 (0 = off)", integer=True)
LIMITS = {
    "temperature": Limit(lambda value: value >= 0, ">= 0 (0 = greedy, 1 = off)"),
    **{stage.name: stage.limit for stage in FILTERS},
    "repetition_penalty": Limit(lambda value: value > 0, "> 0 (1 = off)"),
    "presence_penalty": _ANY,
    "frequency_penalty": _ANY,
    "no_repeat_ngram": _COUNT,
    "min_new_tokens": _COUNT,
}
"""Of every knob that is a number, by its name in `Warp`."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Warp(Drawing):
    """Settings of the logits pipeline.

    A knob of None leaves its stage out of the compiled program; any other value is traced, either
    one for all rows or one per row `[B]`. Changing a value never compiles again. The `off` value of
    a knob is an exact identity, so that rows with and without a stage can share a batch. Sequences of
    tokens are read as `validate` returns them.

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
        <= top_h H(p), and the argmax; 1 = off. Not what the processor of this name in `transformers` does: see
        `filters.top_h`.
      repetition_penalty: r > 0, prompt and generated tokens: l / r if l > 0, else l r; 1 = off.
      presence_penalty: a, generated tokens: l - a; 0 = off.
      frequency_penalty: f, generated tokens: l - f count; 0 = off.
      logit_bias: `[V]` or `[B, V]`, added to the logits; 0 = off, -inf bans a token.
      banned: bool `[V]` or `[B, V]`, True = never emitted; all False = off.
      no_repeat_ngram: n >= 0, no n tokens in a row stand twice in a row's text, its prompt included: what would
        complete such a sequence is banned, as in `transformers`; 0 = off.
      bad_words: sequences of tokens, `[S, K]` or one list a row `[B, S, K]`, of any lengths (-1 behind each in an
        array): none is ever completed, not even one that begins in the prompt; no words = off.
      min_new_tokens: m >= 0, the `ends` are banned before m tokens were generated; 0 = off.
      ends: tokens `[E]` or `[B, E]` that `min_new_tokens` bans; `generate` gives those that end a row, its `eos`.
      forced_prefix: tokens `[F]` or a sequence a row `[B, F]` that come first, -1 where a place is free: the law is
        then certain, whatever is banned, so `log_probs` are 0; `raw_log_probs` are the model's own; all -1 = off.
      constraint: what rows may say, a `Constraint`; `generate` makes it of a `jaxdec.text.Automaton`, or one a prompt.
        Local masking: laws are renormalised token by token, which is not the law of accepted texts. None = off.
      watermark: of `jaxdec.watermarks`: `Exponential` and `InverseTransform` are noise to draw tokens with, by a secret
        (decoders that draw tokens otherwise refuse them), `GreenList` is a stage of the logits; None = off.

    Reference:
      top-p arXiv:1904.09751; locally typical arXiv:2202.00666; min-p arXiv:2407.01082; epsilon
      arXiv:2210.15191; repetition penalty (CTRL) arXiv:1909.05858; top-h arXiv:2509.02510, the
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
    no_repeat_ngram: ArrayLike | None = None
    bad_words: Any = None
    min_new_tokens: ArrayLike | None = None
    ends: Any = None
    forced_prefix: Any = None
    constraint: Any = None
    watermark: Any = None

    def validate(self, batch: int, vocab_size: int, hypotheses: int = 1) -> "Warp":
        """Checks every knob and returns a copy in canonical types and shapes.

        What is traced, in `jit` or `vmap`, is checked by shape and type alone.

        Args:
          batch: B; P prompts where each has several rows.
          vocab_size: V.
          hypotheses: H, rows of each prompt: a knob is then one for all, one a prompt `[P]` or one a row `[P H]`.

        Returns:
          A copy whose scalar knobs are `[B]` (float32, or int32 for integers), tables `logit_bias` (float32) and
          `banned` (bool) `[B, V]`, sequences int32 `[B, S, K]`, `[B, E]` and `[B, F]` with -1 behind, B = P H. None
          stays None.

        Raises:
          ValueError: if a knob has a wrong type, shape or value (NaN is one), if every token of
            a row is banned, or if `min_new_tokens` has no `ends` to ban. The message names the knob, the value and the
            limit.
        """
        arrays: dict[str, Any] = {}
        for name, limit in LIMITS.items():
            knob = getattr(self, name)
            if knob is not None:
                arrays[name] = checked_knob(name, knob, limit, batch, hypotheses)
        for name in ("logit_bias", "banned"):
            table = getattr(self, name)
            if table is not None:
                arrays[name] = checked_table(name, table, batch, vocab_size, hypotheses)
        if self.bad_words is not None:
            words = self.bad_words
            arrays["bad_words"] = checked_words("bad_words", words, batch, vocab_size, hypotheses)
        if self.forced_prefix is not None:
            prefix = self.forced_prefix
            arrays["forced_prefix"] = checked_sequence(
                "forced_prefix", prefix, batch, vocab_size, hypotheses, holes=True
            )
        if self.ends is not None:
            arrays["ends"] = checked_sequence(
                "ends", self.ends, batch, vocab_size, hypotheses, holes=True
            )
        elif self.min_new_tokens is not None:
            raise ValueError("min_new_tokens: got no ends to ban, must have `ends` (() for none)")
        if self.watermark is not None:
            mark = checked_watermark(self.watermark, batch, vocab_size)
            spread = lambda x: over_rows(x, x.ndim - 1, batch, hypotheses)
            arrays["watermark"] = jax.tree.map(spread, mark)
        known = {name: array for name, array in arrays.items() if not is_traced(array)}
        if self.constraint is not None:
            sizes = batch, vocab_size, hypotheses
            arrays["constraint"] = checked_constraint(self.constraint, *sizes)
        removed = known.get("banned", False) | (known.get("logit_bias", 0.0) == -np.inf)
        full = np.all(removed, axis=-1)
        if np.any(full):
            name = "banned" if "banned" in known else "logit_bias"
            raise ValueError(
                f"{name}: all {vocab_size} tokens of row {np.argmax(full)} are banned, "
                "must leave at least 1"
            )
        return Warp(**arrays)

    @property
    def needs_counts(self) -> bool:
        """Whether a penalty is present, so that `log_probs` reads token counts. Static."""
        penalties = (self.repetition_penalty, self.presence_penalty, self.frequency_penalty)
        return any(penalty is not None for penalty in penalties)

    @property
    def needs_text(self) -> bool:
        """Whether a stage is present that reads the text before each law. Static."""
        stages = "no_repeat_ngram", "bad_words", "min_new_tokens", "constraint", "forced_prefix"
        present = any(getattr(self, name) is not None for name in stages)
        return present or isinstance(self.watermark, GreenList)

    @property
    def needs_history(self) -> bool:
        """Whether `log_probs` needs a history. Static."""
        return self.needs_counts or self.needs_text

    def read(self, history: History) -> History:
        """What the stages that are present read of a history; None in place of the rest."""
        text = history.text if self.needs_text else None
        if not self.needs_counts:
            return History(text=text, state=history.state)
        return dataclasses.replace(history, text=text)

    @property
    def plain(self) -> bool:
        """Whether nothing but temperature and bans is present. Static."""
        stages = {field.name for field in dataclasses.fields(self)} - {"temperature", "banned"}
        return all(getattr(self, name) is None for name in stages)

    def greedy(self, batch: int) -> jax.Array:
        """Rows that take the most probable token, bool `[B]`: those of temperature 0."""
        temperature = 1.0 if self.temperature is None else self.temperature
        # Subnormal temperatures count as 0, since some devices flush them.
        return jnp.broadcast_to(jnp.asarray(temperature) < jnp.finfo(jnp.float32).tiny, (batch,))

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
          history: of the past, needed iff `needs_history`; what it holds of each law has none or (leading)
            middle axes of `logits`.

        Returns:
          float32 `[B, ..., V]`, normalised, -inf for removed tokens. Laws whose logits hold NaN or
          +inf, or have no token left, are NaN throughout: the caller turns this into a status.

        Raises:
          ValueError: if a stage is present whose part of `history` is not given.
        """
        return self.staged(logits, history)[0]

    def staged(
        self, logits: jax.Array, history: History | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """As `log_probs`, and the logits after every stage before the temperature, `[B, ..., V]` both."""
        logits = jnp.asarray(logits, jnp.float32)
        # Tested before bans, which would hide a broken model behind a legal law. The sum is NaN or infinite iff a
        # logit is NaN or +inf, or none is finite; callers want the same sum for raw log-probabilities.
        broken = ~jnp.isfinite(jax.nn.logsumexp(logits, axis=-1, keepdims=True))
        logits = self._penalised(logits, history)
        if isinstance(self.watermark, GreenList) and history is not None and history.text:
            logits = self.watermark.raised(logits, history.text)
        top = jnp.max(logits, axis=-1, keepdims=True)
        broken |= ~jnp.isfinite(top)

        tempered, greedy = logits, None
        if self.temperature is not None:
            temperature = by_row(self.temperature, logits.ndim)
            # Subnormal temperatures count as 0, since some devices flush them.
            greedy = temperature < jnp.finfo(jnp.float32).tiny
            # Shifted first: a small temperature then sends logits to -inf, never to +inf.
            tempered = (logits - top) / jnp.where(greedy, 1.0, temperature)

        # One softmax of the masked logits, not a chain of renormalisations: a filter that removes
        # nothing then changes no bit of the result.
        log_probs = self._normalised(logits, tempered, top)
        if greedy is not None:
            best = is_argmax(logits, top)
            log_probs = jnp.where(greedy, jnp.where(best, 0.0, -jnp.inf), log_probs)
        return jnp.where(broken, jnp.nan, log_probs), logits

    def _penalised(self, logits: jax.Array, history: History | None) -> jax.Array:
        """Logits `[B, ..., V]` after every stage before the temperature."""
        ndim = logits.ndim
        if self.logit_bias is not None:
            logits = logits + by_token(self.logit_bias, ndim)
        if self.banned is not None:
            logits = jnp.where(by_token(self.banned, ndim), -jnp.inf, logits)
        if self.needs_text:
            if history is None or history.text is None:
                raise ValueError("a ban reads the text: log_probs needs the history, got none")
            logits = self._ruled_out(logits, history.text, history.state)
        if not self.needs_counts:
            return logits
        if history is None or history.prompt is None or history.generated is None:
            raise ValueError("a penalty is set: log_probs needs the history it reads, got None")
        penalties = self.repetition_penalty, self.presence_penalty, self.frequency_penalty
        return penalised(logits, history.prompt, history.generated, *penalties)

    def _ruled_out(self, logits: jax.Array, text: TextBefore, state: jax.Array | None) -> jax.Array:
        """Logits `[B, ..., V]` without what the text itself rules out."""
        ndim, size = logits.ndim, logits.shape[-1]
        remove = lambda table: jnp.where(by_token(table, ndim), -jnp.inf, logits)
        found = []
        if self.no_repeat_ngram is not None:
            found.append(repeated(text, each_row(self.no_repeat_ngram, text)))
        if self.bad_words is not None:
            found.append(bad_words(text, jnp.asarray(self.bad_words)))
        if found:
            tokens, where = (jnp.concatenate(some, axis=-1) for some in zip(*found, strict=True))
            logits = remove(chosen(tokens, where, size))
        if self.min_new_tokens is not None and self.ends is not None:
            fewest, ends = each_row(self.min_new_tokens, text), jnp.asarray(self.ends)
            logits = remove(early_ends(text, fewest, ends, size))
        if self.constraint is not None:
            logits = remove(~self.constraint.accepts(text, state))
        if self.forced_prefix is not None:
            token = by_token(given(text, jnp.asarray(self.forced_prefix))[..., None], ndim)
            certain = jnp.where(jnp.arange(size) == token, 0.0, -jnp.inf)
            logits = jnp.where(token != NONE, certain, logits)
        return logits

    def _normalised(self, logits: jax.Array, tempered: jax.Array, top: jax.Array) -> jax.Array:
        """Log-probabilities `[B, ..., V]` of tempered logits that every filter keeps."""
        if any(getattr(self, stage.name) is not None for stage in FILTERS):
            knobs = {stage.name: getattr(self, stage.name) for stage in FILTERS}
            kept = kept_by(FILTERS, knobs, logits, tempered)
            return jax.nn.log_softmax(jnp.where(kept, tempered, -jnp.inf))
        # The highest is known, which over a vocabulary on several devices saves sending it once more.
        scores = tempered - top if self.temperature is None else tempered
        return scores - jnp.log(jnp.sum(jnp.exp(scores), axis=-1, keepdims=True))
