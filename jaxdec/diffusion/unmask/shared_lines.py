"""DiffTester: what lines of several samples have in common is committed early.

Legend: B rows, H hypotheses a prompt, W positions of the active group.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Knob
from jaxdec.diffusion.candidates import Candidates
from jaxdec.diffusion.contract import Knobs, Unmask, knob_default
from jaxdec.diffusion.unmask.around import Around
from jaxdec.model import Params

FACTORS = (0x9E3779B1, 0x85EBCA77)
"""Of two hashes of what stands before a token in its line: two such lines are taken for one with chance 2^-64."""


@dataclasses.dataclass(frozen=True)
class SharedLines(Around):
    """See `shared_lines`.

    Attributes:
      newlines: tokens that end a line.
      blanks: tokens that say nothing.
    """

    newlines: tuple[int, ...]
    blanks: tuple[int, ...]
    confidence: float = knob_default()
    least: int = knob_default()
    period: int = knob_default()

    value_dependent = True

    @property
    def knobs(self) -> dict[str, Knob]:
        """`line_confidence`, `line_tokens` and `line_period`; and the policy's."""
        return {
            **self.policy.knobs,
            "line_confidence": Knob(self.confidence, 0, 1),
            "line_tokens": Knob(self.least, 1, integer=True),
            "line_period": Knob(self.period, 1, integer=True),
        }

    def choose(
        self, params: Params, seen: Candidates, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """What the policy commits, and in the last step of each period what lines share."""
        reveal, state = self.policy.choose(params, seen, state, knobs)
        period = knobs["line_period"]
        now = seen.step % period == period - 1
        sure = seen.score("token_prob") >= knobs["line_confidence"][:, None]
        more = self.shared(seen, knobs["line_tokens"]) & seen.allowed & sure & now[:, None]
        return reveal | (more & ~_among(seen.tokens, self.blanks)), state

    def shared(self, seen: Candidates, least: jax.Array) -> jax.Array:
        """Positions that another line of the prompt's samples has too, with all of its line on one side, `[B, W]`.

        Args:
          seen: the group; candidates stand for what is masked.
          least: int32 `[B]`, tokens that the two lines have in common up to there, those that say nothing left out.
        """
        there = seen.allowed | seen.committed
        ends = _among(seen.tokens, self.newlines) & there
        says = there & ~_among(seen.tokens, self.blanks)
        # A line begins behind a newline, and where the group or a gap in it ends.
        after = jnp.pad(ends | ~there, ((0, 0), (1, 0)), constant_values=True)[:, :-1]
        line = jnp.cumsum(after, axis=1, dtype=jnp.int32)
        flip = lambda x: jnp.flip(x, axis=1)
        before = _runs(seen.tokens, says, after)
        # From the end of a line on: only lines that have one are compared.
        behind = tuple(map(flip, _runs(flip(seen.tokens), flip(says), flip(ends))))
        whole = flip(jnp.cumsum(flip(ends), axis=1)) > 0
        found = self._equal(seen, line, before, there, least)
        return found | self._equal(seen, line, behind, there & whole, least)

    def _equal(
        self,
        seen: Candidates,
        line: jax.Array,
        runs: tuple[jax.Array, ...],
        there: jax.Array,
        least: jax.Array,
    ) -> jax.Array:
        """Whether a run of tokens, by length and hashes, is also one of another line of the prompt, bool `[B, W]`."""
        batch, width = seen.tokens.shape
        together = lambda x: x.reshape(batch // seen.hypotheses, -1)
        row = jnp.broadcast_to(jnp.arange(batch, dtype=jnp.int32)[:, None], line.shape)
        line = together(row * (width + 1) + line)
        *same, said = map(together, runs)
        there = together(there)
        equal = (line[:, :, None] != line[:, None]) & there[:, :, None] & there[:, None]
        for key in same:
            equal &= key[:, :, None] == key[:, None]
        return equal.any(-1).reshape(batch, width) & (said.reshape(batch, width) >= least[:, None])


def _among(tokens: jax.Array, kinds: tuple[int, ...]) -> jax.Array:
    """Which tokens are of some kinds, bool of the same shape."""
    if not kinds:
        return jnp.zeros(tokens.shape, bool)
    return (tokens[..., None] == jnp.asarray(kinds, jnp.int32)).any(-1)


def _runs(tokens: jax.Array, says: jax.Array, begins: jax.Array) -> tuple[jax.Array, ...]:
    """Of each line up to each token: tokens, two hashes, and tokens that say something, `[B, W]` each."""
    batch = tokens.shape[:1]

    def step(carry, now):
        token, says, begins = now
        keep = lambda x: jnp.where(begins, jnp.zeros_like(x), x)
        count, *hashes, said = map(keep, carry)
        mixed = [
            (h ^ (token.astype(jnp.uint32) + jnp.uint32(1))) * jnp.uint32(factor)
            for h, factor in zip(hashes, FACTORS, strict=True)
        ]
        mixed = [h ^ (h >> 15) for h in mixed]
        carry = (count + 1, *mixed, said + says.astype(jnp.int32))
        return carry, carry

    zero, none = jnp.zeros(batch, jnp.int32), jnp.zeros(batch, jnp.uint32)
    by_place = (tokens.T, says.T, begins.T)
    _, found = jax.lax.scan(step, (zero, none, none, zero), by_place)
    return tuple(x.T for x in found)


@typed
def shared_lines(
    policy: Unmask,
    newlines: tuple[int, ...],
    *,
    blanks: tuple[int, ...] = (),
    confidence: float = 0.02,
    least: int = 3,
    period: int = 2,
) -> SharedLines:
    """Commits what lines of a prompt's samples have in common beside what a policy commits.

        commit i too  iff  in step period - 1 of each period, p(x_i) >= confidence, x_i says something, and
        another line of the samples has the same tokens from its beginning to x_i, or from x_i to its end

    Candidates stand for what is masked. The samples of a prompt are its `hypotheses`; further lines of the same sample
    count as well. Whatever is committed is the candidate of its position.

    Args:
      policy: commits as ever.
      newlines: tokens that end a line.
      blanks: tokens that say nothing: not committed so, and not counted.
      confidence: least probability of a token (knob `line_confidence`).
      least: tokens that two lines must have in common up to there (knob `line_tokens`).
      period: steps (knob `line_period`).

    Raises:
      ValueError: for no newline, a confidence outside of [0, 1], or fewer than 1 token or step.

    Exactness: heuristic; samples of a prompt depend on one another, not on other prompts.

    Source: DiffTester 2509.24975, with equal tokens from an end of two lines on in place of syntax trees that
    are merged, which need a parser on the host: names that differ within a line end the pattern from both sides.
    """
    if not newlines:
        raise ValueError("lines need a token that ends them, got none")
    if not 0 <= confidence <= 1:
        raise ValueError(f"confidence must lie in [0, 1], got {confidence}")
    for what, size in (("least", least), ("period", period)):
        if size < 1:
            raise ValueError(f"{what} must be at least 1, got {size}")
    return SharedLines(policy, tuple(newlines), blanks, confidence, least, period)
