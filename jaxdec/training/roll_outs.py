"""What a model writes for tasks, judged by their checkers: accuracy, and labels for heads that score prefixes.

Legend: N prefixes, D width of the model.
"""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import text
from jaxdec.autoregressive import autoregressive
from jaxdec.generation import generate, generated_texts
from jaxdec.model import Inputs, Model, Params
from jaxdec.training.tasks import DELIMITER, Problem, Task, document


def sample(
    model: Model,
    params: Params,
    prompts: Sequence[str],
    *,
    samples: int = 1,
    temperature: float = 1.0,
    seed: int = 0,
    most: int = 128,
    batch: int = 64,
) -> list[list[str]]:
    """Solutions that a model writes.

    Args:
      model: a causal byte model.
      params: its parameters.
      prompts: of problems.
      samples: solutions of each.
      temperature: of the draws; 0 for the likeliest token.
      seed: of the draws; prompt i of a seed is answered alike beside any others.
      most: tokens of a solution at most.
      batch: rows that are decoded at once, about.

    Returns:
      For each prompt its solutions; one that is not over after `most` tokens as far as it goes.
    """
    decoder, found = autoregressive(model), []
    group = max(1, batch // samples)
    for start in range(0, len(prompts), group):
        some = [*prompts[start : start + group]]
        tokens, lengths = text.encode_batch(some + [DELIMITER] * (group - len(some)), bos=True)
        result = generate(
            decoder,
            {"target": params},
            tokens,
            lengths=lengths,
            rng=[seed * 2**20 + start + i for i in range(group)],
            max_new_tokens=most,
            temperature=temperature,
            hypotheses=samples,
        )
        texts = generated_texts(result, text.BYTES, hypotheses=samples)
        found += [texts[i * samples : (i + 1) * samples] for i in range(len(some))]
    return found


def accuracy(
    task: Task, problems: Sequence[Problem], solutions: Sequence[Sequence[str]]
) -> dict[str, float]:
    """How often solutions are right.

    Args:
      task: the kind of the problems.
      problems: at least one.
      solutions: of each, equally many.

    Returns:
      `each`: the share of all solutions that are right; `voted`: of problems whose commonest answer (the first of
      equals) is that of a right solution; `any`: of problems with a right solution.
    """
    each = voted = some = 0.0
    for problem, found in zip(problems, solutions, strict=True):
        right = [task.check(problem.prompt, one) for one in found]
        answers = [task.answer(problem.prompt, one) for one in found]
        counts = Counter(answer for answer in answers if answer is not None)
        best = max(counts, key=counts.__getitem__, default=None)
        each += sum(right) / len(found)
        some += any(right)
        voted += any(ok and answer == best for ok, answer in zip(right, answers, strict=True))
    scores = {"each": each, "voted": voted, "any": some}
    return {name: value / len(problems) for name, value in scores.items()}


@dataclasses.dataclass(frozen=True)
class RollOuts:
    """Prefixes of solutions that a model wrote, each ending with a step or with the solution.

    Attributes:
      hidden: float32 `[N, D]`, the model's state at the last token of each prefix: the delimiter of the prompt or of a
        step, or EOS.
      reward: float32 `[N]`, 1 where the prefix can still be completed to a right solution, by the task's checker.
      value: float32 `[N]`, 1 where the solution that it was taken from is right: a draw of the probability of that.
      tasks: int32 `[N]`, which task.
    """

    hidden: np.ndarray
    reward: np.ndarray
    value: np.ndarray
    tasks: np.ndarray

    def fingerprint(self) -> str:
        """A hash: equal roll-outs have equal fingerprints."""
        digest = hashlib.sha256()
        for field in dataclasses.fields(self):
            digest.update(getattr(self, field.name).tobytes())
        return digest.hexdigest()[:16]

    def train_stream(self) -> "RollOuts":
        """What batches are drawn from."""
        return self


def roll_outs(
    model: Model,
    params: Params,
    tasks: Sequence[Task],
    problems: Sequence[tuple[int, Problem]],
    *,
    samples: int = 4,
    temperature: float = 1.0,
    seed: int = 0,
    length: int = 192,
    most: int = 128,
    batch: int = 64,
) -> RollOuts:
    """Lets a model solve problems, and labels every prefix of what it writes.

    Args:
      model: a causal byte model.
      params: its parameters.
      tasks: the kinds of problems.
      problems: each with the index of its task.
      samples: solutions of each problem.
      temperature: of the draws.
      seed: of the draws.
      length: tokens of a document that are read, at most; prefixes beyond are left out.
      most: tokens of a solution at most.
      batch: rows of a forward.
    """
    prompts = [problem.prompt for _, problem in problems]
    written = sample(
        model,
        params,
        prompts,
        samples=samples,
        temperature=temperature,
        seed=seed,
        most=most,
        batch=batch,
    )
    labels: list[tuple[int, int, float, float, int]] = []  # row, place, reward, value, task
    rows: list[np.ndarray] = []
    for (which, problem), found in zip(problems, written, strict=True):
        for solution in found:
            for place, reward, value in labelled(tasks[which], problem.prompt, solution):
                if place < length:
                    labels.append((len(rows), place, reward, value, which))
            rows.append(document(Problem(problem.prompt, solution))[:length])
    hidden = _states(model, params, rows, length, batch)
    at, ends, rewards, values, kinds = (np.array(x) for x in zip(*labels, strict=True))
    return RollOuts(
        np.stack([hidden[row][end] for row, end in zip(at, ends, strict=True)]),
        rewards.astype(np.float32),
        values.astype(np.float32),
        kinds.astype(np.int32),
    )


def labelled(task: Task, prompt: str, solution: str) -> list[tuple[int, float, float]]:
    """The prefixes of a solution: the place of the last token in its document, reward and value.

    The first is the prompt; one follows for every whole step, and one for EOS if the last step is whole.
    """
    right = float(task.check(prompt, solution))
    *steps, rest = solution.split(DELIMITER)
    found, prefix = [], ""
    for step in [None, *steps]:
        prefix += "" if step is None else step + DELIMITER
        place = len((prompt + prefix).encode("utf-8"))
        found.append((place, float(task.sound(prompt, prefix)), right))
    if not rest:
        found.append((found[-1][0] + 1, right, right))
    return found


def _states(
    model: Model, params: Params, rows: Sequence[np.ndarray], length: int, batch: int
) -> list[np.ndarray]:
    """Hidden states `[n, D]` of each document of n tokens."""

    @jax.jit
    def states(params: Params, tokens: jax.Array) -> jax.Array:
        return model(params, Inputs.causal(tokens), None).hidden.astype(jnp.float32)

    found: list[np.ndarray] = []
    for start in range(0, len(rows), batch):
        some = rows[start : start + batch]
        tokens = np.full((batch, length), text.PAD, np.int32)
        for one, row in zip(tokens, some, strict=False):
            one[: len(row)] = row
        hidden = np.asarray(states(params, jnp.asarray(tokens)))
        found += [hidden[i, : len(row)] for i, row in enumerate(some)]
    return found
