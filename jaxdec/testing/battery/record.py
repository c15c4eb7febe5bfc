"""What holds of every run: prompts and budgets are kept, and the record is of what was emitted."""

import numpy as np

from jaxdec.decoding import Exactness, Status
from jaxdec.testing.bans import ruled_out
from jaxdec.testing.battery.cases import CASES, VOCAB, WIDTH, Kind
from jaxdec.testing.battery.report import Difference
from jaxdec.testing.battery.runs import Row
from jaxdec.testing.battery.subject import Subject


def _sound_top(row: Row) -> None:
    """Raises a `Difference` unless each new token stands where it belongs beside the most probable ones."""
    new = slice(len(row.case.prompt), row.length)
    tokens, log_probs = row.top_tokens[new], row.top_log_probs[new]
    own = row.raw_log_probs[new, None]
    among = tokens == row.tokens[new, None]
    sound = (np.diff(log_probs) <= 0).all(-1) & (np.diff(np.sort(tokens)) > 0).all(-1)
    sound &= (~among | (np.abs(log_probs - own) < 1e-5)).all(-1)
    sound &= among.any(-1) | (own[:, 0] <= log_probs[:, -1] + 1e-5)
    for i in np.flatnonzero(~sound):
        raise Difference(
            "most probable tokens",
            row=row.case.name,
            position=int(i) + new.start,
            expected=(row.new[i], own[i, 0]),
            got=dict(zip(tokens[i].tolist(), log_probs[i].tolist(), strict=True)),
        )


def sound(row: Row, subject: Subject) -> None:
    """Raises a `Difference` for a row that no decoder may write."""
    case, start, name = row.case, len(row.case.prompt), row.case.name
    if row.text[:start] != list(case.prompt):
        raise Difference("the prompt is kept", row=name, expected=case.prompt, got=row.text[:start])
    if np.any(row.tokens[row.length :]):
        raise Difference("zeros follow the text", row=name, got=row.tokens[row.length :].tolist())
    _sound_top(row)
    settings = case.asked(subject.read_left)
    # A forward is a step, but for steps that were guessed right, which need none.
    forwards = row.counts["target_forwards"] + row.counts["accepted"]
    if subject.target_rests:
        forwards += row.counts["draft_forwards"]
    relaxed = subject.exactness in (Exactness.APPROXIMATE, Exactness.HEURISTIC)
    for i, token in enumerate(row.new, start):
        never, forced = ruled_out(row.text[:i], start, VOCAB, settings)
        legal = token == forced if forced is not None else not settings["banned"][token]
        if not 0 <= token < VOCAB or not legal or (token in never and forced is None):
            raise Difference("only allowed tokens", row=name, position=i, got=token)
        values = row.log_probs[i], row.raw_log_probs[i]
        # A relaxed rule may emit what the law gives nothing, and says so.
        sound = np.isfinite(values) | (relaxed & np.isneginf(values))
        if not (sound.all() and max(values) <= 1e-6 and np.isfinite(values[1])):
            raise Difference("log-probabilities are finite", row=name, position=i, got=values)
        if not 0 <= row.steps[i] < forwards:
            raise Difference("each token has its step", row=name, position=i, got=row.steps[i])
    if (
        np.any(row.log_probs[:start])
        or np.any(row.raw_log_probs[:start])
        or np.any(row.drafted[:start])
    ):
        raise Difference("nothing is recorded of the prompt", row=name)
    if np.any(row.steps[:start] != -1):
        raise Difference("prompt tokens have step -1", row=name, got=row.steps[:start].tolist())
    if not 0 <= row.counts["accepted"] <= row.counts["proposed"]:
        raise Difference("accepted drafts were proposed", row=name, got=row.counts)


def check_record(subject: Subject) -> None:
    """Prompts, bans and budgets are kept; log-probabilities, steps and counts are of what was emitted."""
    for run in (subject.free, subject.agreeing):
        for row in run.values():
            sound(row, subject)
            if row.case.overfull:
                continue
            if row.status is not Status.LENGTH:
                raise Difference("ends by its budget", row=row.case.name, got=row.status.name)
            if len(row.new) != row.case.budget:
                raise Difference(
                    "new tokens", row=row.case.name, expected=row.case.budget, got=len(row.new)
                )
            if row.case.budget == 0 and any(row.counts.values()):
                raise Difference("a budget of 0 takes no step", row=row.case.name, got=row.counts)
    for row in subject.broken.values():
        sound(row, subject)


def check_full_cache(subject: Subject) -> None:
    """A row that runs out of room ends with `CACHE_FULL`, and not before a step's tokens could no longer be held."""
    case = next(case for case in CASES if case.overfull)
    request = subject.request()
    asked = int(request.settings.max_new_tokens[CASES.index(case)])
    if asked == case.budget:
        return  # the decoder refuses requests that its buffers do not hold
    for run in (subject.free, subject.agreeing):
        row = run[case.name]
        sound(row, subject)
        if row.status is not Status.CACHE_FULL:
            raise Difference(
                "a full row", row=case.name, expected="CACHE_FULL", got=row.status.name
            )
        # A step leaves room for a whole chunk, and for one of tokens that the model has yet to read.
        least = request.capacity - 2 * (subject.decoder.width - 1)
        if subject.kind is Kind.CANVAS:
            least = len(case.prompt) + request.capacity - WIDTH
        if not least <= row.length <= request.capacity:
            raise Difference(
                "a full row holds what fits",
                row=case.name,
                expected=f"{least} to {request.capacity} tokens",
                got=row.length,
            )
