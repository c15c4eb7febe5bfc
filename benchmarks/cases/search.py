"""Searches and votes on tasks that a program checks: accuracy against what they spend."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.case import Case
from benchmarks.choosing import RULES, Chosen, all_of, at, switched
from benchmarks.columns import Row, number, plus_minus, word
from benchmarks.progress import each
from benchmarks.searches import METHODS, first, sampled, search_for
from benchmarks.setting import Setting
from benchmarks.solutions import Found, Solver
from jaxdec.search import selection
from jaxdec.training.presets import PRESETS
from jaxdec.training.tasks import problems

SINGLE, SEARCH = "one sample", "a-star"
GAIN = 0.01
"""What one more sample has to bring."""
DRAWN = (
    *(SINGLE, "greedy", "vote", "RPC", "best of n by reward", "first verified (checker)"),
    *("particle-filter", "smc", SEARCH, "beams", "diverse-beams", "stochastic-beams"),
    *("cautious", "first-finish", "deep-prune"),
)
"""Methods in the picture."""


def run(setting: Setting) -> list[Row]:
    """One row a task, method and number of hypotheses; then the errors of confidences."""
    scale, solver, rows = setting.scale, Solver.load(), []
    mixture: Any = PRESETS["steps"].config
    for task in each(mixture.mixture.tasks, lambda task: task.name):
        some = problems(task, scale.searched, seed=1, fraction=mixture.mixture.held_out)
        pool = sampled(solver, task, some, max(scale.populations))
        greedy = sampled(solver, task, some, 1, 0.0)
        votes = {}
        for row, chosen in _of_pool(greedy, pool, scale.populations):
            if row["method"] == "vote":
                votes[row["hypotheses"]] = chosen
            rows.append(
                {"task": task.name, **row, **_facts(chosen, votes, row["hypotheses"], pool)}
            )
        for method in METHODS[: scale.searches]:
            for n in (1,) if method.alone else scale.populations[1:]:
                held = search_for(solver, task, some, method, n)
                chosen = Chosen(at(held, method.answer(held)), held.target, held.steps)
                row = {"method": method.name, "about": method.about, "hypotheses": n}
                row["draft"] = float(held.draft.mean())
                rows.append({"task": task.name, **row, **_facts(chosen, votes, n, pool)})
            if method.name == SEARCH and "greedy" not in method.about:
                rows.append({"task": task.name, **_as_many(chosen, pool)})
        rows.append({"task": task.name, **_saturation(votes, pool)})
        rows += [{"task": task.name, **row} for row in _errors(pool, scale.populations)]
    return rows


def _of_pool(greedy: Found, pool: Found, sizes: Sequence[int]) -> Iterator[tuple[Row, Chosen]]:
    """Rules of choice among n samples, over all groups of n of the pool."""
    yield (
        {"method": "greedy", "about": "temperature 0", "hypotheses": 1},
        all_of(greedy, first(greedy)),
    )
    alone = pool.groups(1)
    yield {"method": SINGLE, "about": "", "hypotheses": 1}, all_of(alone, first(alone))
    for n in sizes[1:]:
        groups = pool.groups(n)
        for name, rule in RULES.items():
            yield {"method": name, "about": "", "hypotheses": n}, rule(groups)
    about = "greedy if its reward is above 1/2, else a vote"
    yield {"method": "dynamic switch", "about": about, "hypotheses": n}, switched(greedy, pool)


def _facts(chosen: Chosen, votes: dict[int, Chosen], n: int, pool: Found) -> Row:
    """Accuracy and costs with twice their standard errors over problems; groups of one problem are averaged first."""
    count = len(pool.answers)
    by_problem = lambda x: np.asarray(x, float).reshape(count, -1).mean(1)
    row: Row = {"problems": count}
    for name, value in (
        ("accuracy", chosen.correct),
        ("target", chosen.target),
        ("steps", chosen.steps),
    ):
        row[name], row[f"{name}_error"] = _mean(by_problem(value))
    single = pool.correct.mean(1)
    row["over_single"], row["over_single_error"] = _mean(by_problem(chosen.correct) - single)
    if n in votes:
        row["over_vote"], row["over_vote_error"] = _mean(
            by_problem(chosen.correct) - by_problem(votes[n].correct)
        )
    return row


def _mean(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(2 * values.std(ddof=1) / np.sqrt(len(values)))


def _as_many(searched: Chosen, pool: Found) -> Row:
    """As many direct samples as a search pays for, with a checker that finds the right one."""
    matched = selection.match_budgets(searched.correct, searched.target, pool.correct, pool.lengths)
    accuracy, error = _mean(np.asarray(matched.parallel))
    return {
        "method": f"any of as many as {SEARCH} pays for (checker)",
        "about": "" if matched.enough else "more than were drawn",
        "hypotheses": int(matched.samples),
        "problems": len(pool.answers),
        "accuracy": accuracy,
        "accuracy_error": error,
        "target": float(matched.parallel_tokens),
    }


def _saturation(votes: dict[int, Chosen], pool: Found) -> Row:
    """The curve through the votes' accuracies: its ceiling, and where one more sample brings less than `GAIN`."""
    measured = {1: pool.correct.mean(), **{n: c.correct.mean() for n, c in votes.items()}}
    curve = selection.fit_saturation(
        np.array([*measured]), np.array([*measured.values()], np.float32)
    )
    return {
        "method": "TTSPM",
        "about": f"p {float(curve.p):.2f}, off by {float(curve.residual):.3f}; ceiling and budget",
        "hypotheses": int(curve.budget(GAIN)),
        "problems": len(pool.answers),
        "accuracy": float(curve.ceiling),
    }


def _errors(pool: Found, sizes: Sequence[int]) -> Iterator[Row]:
    """The errors of the confidence in the right answer, of those completions that the pool has; means over problems."""
    held = []
    for q in range(len(pool.answers)):
        right = {
            text: p
            for text, p, correct in zip(
                pool.texts[q],
                np.exp(pool.log_probs[q].astype(np.float64)),
                pool.correct[q],
                strict=True,
            )
            if correct
        }
        held.append(sorted(right.values(), reverse=True))
    completions = np.zeros((len(held), max(map(len, held), default=1) or 1))
    for row, values in zip(completions, held, strict=True):
        row[: len(values)] = values
    mass, right = completions.sum(1), np.ones(len(held), bool)
    for n in sizes:
        for name, errors in (
            ("self-consistency", selection.self_consistency_errors(mass, right, n)),
            ("perplexity", selection.perplexity_errors(completions[:, 0], right, n)),
            (
                "perplexity consistency",
                selection.perplexity_consistency_errors(completions, right, n),
            ),
        ):
            yield {
                "method": f"error of {name}",
                "about": f"probability of the right answer {mass.mean():.2f}",
                "hypotheses": n,
                "problems": len(held),
                "estimation": float(np.asarray(errors.estimation).mean()),
                "model_error": float(np.asarray(errors.model).mean()),
            }


def chart(rows: list[Row]) -> Any:
    """A row of panels a task: accuracy against all forwards of the target, and against those in sequence."""
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(row["task"] for row in rows))
    figure = Figure(figsize=(9.5, 2.9 * len(tasks) + 0.8), layout="constrained")
    axes = figure.subplots(len(tasks), 2, sharey="row", squeeze=False)
    lines: dict[str, Any] = {}
    for task, pair in zip(tasks, axes, strict=True):
        for ax, cost in zip(pair, ("target", "steps"), strict=True):
            for name, points in _lines(rows, task, cost).items():
                x, y, error = np.transpose(points)
                place = DRAWN.index(name)
                lines[name] = ax.errorbar(
                    *(x, y),
                    yerr=error / 2,
                    marker="os^D"[place // 10],
                    ms=4,
                    lw=1,
                    color=f"C{place % 10}",
                    capsize=2,
                )
            ax.set_xscale("log", base=2)
            ax.xaxis.set_major_formatter("{x:g}")
            ax.set_title(f"{task}: {'all forwards' if cost == 'target' else 'one after another'}")
        pair[0].set_ylabel("accuracy")
    for ax in axes[-1]:
        ax.set_xlabel("forwards of the target, a problem")
    figure.legend(
        list(lines.values()), list(lines), loc="outside upper center", ncols=5, frameon=False
    )
    return figure


def _lines(rows: list[Row], task: str, cost: str) -> dict[str, list[tuple[float, float, float]]]:
    """Points of the methods that are drawn, those of the first setting of each, over numbers of hypotheses."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    first: dict[str, str] = {}
    for row in rows:
        name = row["method"]
        if (
            row["task"] == task
            and name in DRAWN
            and row["about"] == first.setdefault(name, row["about"])
        ):
            found.setdefault(name, []).append((row[cost], row["accuracy"], row["accuracy_error"]))
    return {name: found[name] for name in DRAWN if name in found}


CASE = Case(
    name="search",
    order=28,
    about=(
        "Searches, votes and early stops on held-out problems of three tasks that a program checks, by the model steps "
        "(1.8M) with its reward, its value and its draft model. Accuracy of the answer against forwards of the target: "
        "all of them, and those that have to follow one another."
    ),
    models=None,
    columns=(
        ("task", word("task")),
        ("method", word("method")),
        ("setting", word("about")),
        ("n", number("hypotheses", "d")),
        ("accuracy", plus_minus("accuracy", ".3f")),
        ("over one sample", plus_minus("over_single", "+.3f")),
        ("over a vote of n", plus_minus("over_vote", "+.3f")),
        ("forwards", plus_minus("target", ".0f")),
        ("in sequence", plus_minus("steps", ".0f")),
        ("of the draft model", number("draft", ".0f")),
        ("estimation error", number("estimation", ".4f")),
        ("model error", number("model_error", ".4f")),
    ),
    legend="""\
± is twice the standard error over problems; differences are taken problem by problem, and of rules of choice over all
groups of n of one pool of samples. An answer is right if it is the reference's, or a solution with it passes the
checker. *forwards*: of the target, of all rows of a problem, those that read a score included; *in sequence*: steps
until the problem's last row has ended. *(checker)*: rules that are told what is right, an upper bound. *TTSPM*: the
saturating curve through the votes: its ceiling, and as n the budget after which one more sample brings less than 0.01.
*error of*: the mean squared error of the confidence in the right answer from n samples, as what more samples mend
(estimation) and what they do not (model), over the completions that were seen (2502.00511).
""",
    labels=("task", "method", "about", "hypotheses"),
    run=run,
    chart=chart,
)
