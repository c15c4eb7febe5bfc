"""Solutions of tasks that searches find: their answers, whether these are right, and pools of samples to choose among.

Legend: Q problems, N samples of each.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import jaxdec
from benchmarks.metered import Run, spend
from jaxdec import checkpoints, search, text
from jaxdec.decoding import Decoder, Status
from jaxdec.generation import generated_texts
from jaxdec.model import Model, Params, ScoreHead
from jaxdec.search import selection
from jaxdec.training.tasks import Problem, Task

MOST = 128
"""Tokens of a solution."""
ROWS = 128
"""Rows that are decoded at once, about."""


@dataclasses.dataclass(frozen=True)
class Solver:
    """The models that solve tasks.

    Attributes:
      model: the target.
      draft: a smaller one.
      params: of all parts: target, draft, reward, value.
      reward: the head that says whether a prefix can still be completed.
      value: the head that says whether the model will.
    """

    model: Model
    draft: Model
    params: Mapping[str, Params]
    reward: ScoreHead
    value: ScoreHead

    @classmethod
    def load(cls) -> "Solver":
        """The shipped ones."""
        target, draft = jaxdec.load("steps"), jaxdec.load("steps-draft")
        reward, value = (checkpoints.load_heads(f"steps-{kind}") for kind in ("reward", "value"))
        params = dict(
            target=target.params, draft=draft.params, reward=reward.params, value=value.params
        )
        return cls(target.model, draft.model, params, reward.heads, value.heads)

    def scorer(self, kind: str) -> search.Scorer:
        """The head `reward` or `value` as a scorer; scores are logits."""
        return search.scorers.of_hidden(getattr(self, kind).logit, kind)


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search found for some problems.

    Attributes:
      answers: int `[Q, N]`, numbers of answers, equal for equal answers of a problem; -1 for none.
      correct: bool `[Q, N]`, whether the answer is right.
      lengths: int `[Q, N]`, new tokens.
      finished: bool `[Q, N]`, whether the solution came to its end.
      weights: `[Q, N]`, log-weights of the pool; 0 where the decoder keeps none.
      scores: `[Q, N]`, what a scorer said last; 0 without one.
      mean_log_probs: `[Q, N]`, of the tokens under the model's own law.
      log_probs: `[Q, N]`, of the whole text under the model's own law.
      texts: int `[Q, N]`, numbers of texts.
      tokens: int `[Q, N, L]`, new tokens, zeros behind.
      target: int `[Q]`, forwards of the target, all rows together; `draft` of the draft model.
      draft: int `[Q]`.
      steps: int `[Q]`, that follow one another.
    """

    answers: np.ndarray
    correct: np.ndarray
    lengths: np.ndarray
    finished: np.ndarray
    weights: np.ndarray
    scores: np.ndarray
    mean_log_probs: np.ndarray
    log_probs: np.ndarray
    texts: np.ndarray
    tokens: np.ndarray
    target: np.ndarray
    draft: np.ndarray
    steps: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence["Found"]) -> "Found":
        """Problems one after another."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def groups(self, n: int) -> "Found":
        """Samples as groups of n, each a problem of its own, `[Q N / n, n]`; what is spent is of the group."""
        held = {
            field.name: getattr(self, field.name).reshape(
                -1, n, *getattr(self, field.name).shape[2:]
            )
            for field in dataclasses.fields(self)
            if field.name not in ("target", "draft", "steps")
        }
        lengths = held["lengths"]
        return Found(
            **held, target=lengths.sum(1), draft=np.zeros(len(lengths), int), steps=lengths.max(1)
        )


def found(
    solver: Solver,
    task: Task,
    problems: Sequence[Problem],
    decoder: Decoder,
    hypotheses: int,
    *,
    seed: int = 0,
    temperature: Any = 1.0,
    run: Any = spend,
    **knobs: Any,
) -> Found:
    """Solves problems, some at a time, each alike beside any others.

    Args:
      solver: the models.
      task: the kind of the problems.
      problems: Q of them.
      decoder: any that continues prompts.
      hypotheses: N.
      seed: of the draws.
      temperature: of the draws, one or one a hypothesis.
      run: what decodes, as `spend`.
      **knobs: further arguments of `generate`.
    """
    group, parts = max(1, min(len(problems), ROWS // hypotheses)), []
    for start in range(0, len(problems), group):
        some = problems[start : start + group]
        filled = [*some, *[some[-1]] * (group - len(some))]
        prompt, lengths = text.encode_batch([problem.prompt for problem in filled], bos=True)
        held = run(
            decoder,
            solver.params,
            prompt,
            lengths=lengths,
            rng=[seed * 2**20 + start + i for i in range(group)],
            hypotheses=hypotheses,
            max_new_tokens=MOST,
            temperature=selection.of_samples(
                np.broadcast_to(np.float32(temperature), (hypotheses,)), group
            ),
            **knobs,
        )
        parts.append(judged(task, some, held, hypotheses))
    return Found.joined(parts)


def judged(task: Task, problems: Sequence[Problem], run: Run, hypotheses: int) -> Found:
    """What a run found for its first problems."""
    result, count = run.result, len(problems)
    each = lambda x: np.asarray(x).reshape(-1, hypotheses, *np.shape(x)[1:])[:count]
    written = generated_texts(result, text.BYTES, hypotheses=hypotheses)
    answers, correct, texts = (np.full((count, hypotheses), -1) for _ in range(3))
    for q, problem in enumerate(problems):
        own = written[q * hypotheses : (q + 1) * hypotheses]
        right = {task.answer(problem.prompt, problem.solution)}
        said = [task.answer(problem.prompt, one) for one in own]
        right |= {a for a, one in zip(said, own, strict=True) if task.check(problem.prompt, one)}
        right -= {None}
        numbers: dict[Any, int] = {}
        for n, (answer, one) in enumerate(zip(said, own, strict=True)):
            texts[q, n] = own.index(one)
            correct[q, n] = answer in right
            if answer is not None:
                answers[q, n] = numbers.setdefault(answer, len(numbers))
    start, stop = each(result.prompt_lengths), each(result.lengths)
    raw = each(result.raw_log_probs)
    place = np.arange(raw.shape[-1])
    new = (place >= start[..., None]) & (place < stop[..., None])
    total = np.where(new, raw, 0).sum(-1)
    width = MOST
    tokens = np.take_along_axis(
        each(result.tokens),
        np.minimum(start[..., None] + np.arange(width), raw.shape[-1] - 1),
        axis=-1,
    )
    pool, none = result.pool, np.zeros(answers.shape)
    return Found(
        answers=answers,
        correct=correct.astype(bool),
        lengths=stop - start,
        finished=each(result.codes) == int(Status.EOS),
        weights=none if pool is None else each(getattr(pool, "log_weights", none)),
        scores=none if pool is None else each(getattr(pool, "scores", none)),
        mean_log_probs=total / np.maximum(stop - start, 1),
        log_probs=total,
        texts=texts,
        tokens=np.where(np.arange(width) < (stop - start)[..., None], tokens, 0),
        target=run.target[:count],
        draft=run.draft[:count],
        steps=run.steps[:count],
    )
