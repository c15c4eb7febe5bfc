"""What each kind of run trains and exports."""

import argparse
import functools
from typing import Any

from jaxdec.cli import loading
from jaxdec.model import Model, Params
from jaxdec.models import build_heads
from jaxdec.training import (
    export,
    export_fills,
    export_heads,
    export_joint,
    export_judge,
    export_policies,
    export_tasks,
)
from jaxdec.training.filling import FillTraining, train_filler
from jaxdec.training.finality import FinalityTraining, steps_of, train_filter
from jaxdec.training.heads import train_heads
from jaxdec.training.joint import JointTraining, train_joint
from jaxdec.training.judging import JudgeTraining, train_judge
from jaxdec.training.policies import PolicyTraining, train_policy
from jaxdec.training.presets import Config, Preset
from jaxdec.training.scores import ScoreTraining, roll_outs_of, train_scores
from jaxdec.training.solving import TaskTraining, train_solver
from jaxdec.training.trainer import TrainConfig, build, train

OnCanvases = PolicyTraining | FinalityTraining
"""Policies of a canvas model."""


def task(preset: Preset, config: Config, arguments: argparse.Namespace):
    """What trains, as `(corpus, folder, report) -> (model, params)`, what exports, and the teacher's parameters."""
    if isinstance(config, TrainConfig):
        teacher = _teacher(preset, config, arguments)
        learn = lambda data, folder, report: train(
            config, data, folder, teacher=teacher, start=_start(config), report=report
        )
        return learn, functools.partial(export.export, config=config), teacher and teacher[1]
    if isinstance(config, TaskTraining | FillTraining):
        return _on_tasks(config, arguments)
    if arguments.teacher:
        raise ValueError(f"{arguments.name} learns from {config.target}, so it takes no --teacher")
    held = loading.load(config.target)
    target = held.model, held.params
    if isinstance(config, OnCanvases):
        return _of_policies(config, target)
    heads: Any = build_heads(config.kind, config.model, abstract=True)[0]
    if isinstance(config, ScoreTraining):
        score = lambda data, folder, report: train_scores(
            config, roll_outs_of(config, target), folder, report=report
        )
        publish = functools.partial(
            export_tasks.export_scores, config=config, head=heads, target=target
        )
        return score, publish, target[1]
    if isinstance(config, JudgeTraining):
        return _judging(config, target, heads)
    if isinstance(config, JointTraining):
        join = lambda data, folder, report: train_joint(config, data, folder, target, report=report)
        publish = functools.partial(
            export_joint.export_joint, config=config, network=heads, target=target
        )
        return join, publish, target[1]
    learn_heads = lambda data, folder, report: train_heads(
        config, data, folder, target, report=report
    )
    publish = functools.partial(
        export_heads.export_heads, config=config, heads=heads, target=target
    )
    return learn_heads, publish, target[1]


def _judging(config: JudgeTraining, target: tuple[Any, Any], head: Any):
    """`task` for a judge of drafts."""
    drafter = loading.load(config.draft)
    draft = drafter.model, drafter.params
    learn = lambda data, folder, report: train_judge(
        config, data, folder, target, draft, report=report
    )
    publish = functools.partial(
        export_judge.export_judge, config=config, head=head, target=target, draft=draft
    )
    return learn, publish, {"target": target[1], "draft": draft[1]}


def _on_tasks(config: TaskTraining | FillTraining, arguments: argparse.Namespace):
    """`task` for models that solve tasks."""
    if arguments.teacher:
        raise ValueError(f"{arguments.name} does not distil, so it takes no --teacher")
    model, _ = build(config.model)
    if isinstance(config, TaskTraining):
        solve = lambda data, folder, report: train_solver(config, folder, report=report)
        return (
            solve,
            functools.partial(export_tasks.export_solver, config=config, model=model),
            None,
        )
    filled = lambda data, folder, report: train_filler(config, folder, report=report)
    return filled, functools.partial(export_fills.export_filler, config=config, model=model), None


def _of_policies(config: OnCanvases, target: tuple[Model, Params]):
    """`task` for policies of a canvas model."""
    kind = "unmasking" if isinstance(config, PolicyTraining) else "finality"
    head: Any = build_heads(kind, config.model, abstract=True)[0]
    if isinstance(config, PolicyTraining):
        learn = lambda data, folder, report: train_policy(config, folder, target, report=report)
    else:
        learn = lambda data, folder, report: train_filter(
            config, steps_of(config, target), folder, report=report
        )
    publish = functools.partial(
        export_policies.export_policy, config=config, head=head, target=target
    )
    return learn, publish, target[1]


def quality(facts: dict[str, Any]) -> str:
    """How good a trained model is, in one line."""
    if "judgement" in facts:
        found = facts["judgement"]
        return f"held-out area under the curve {found['auc']:.3f}"
    if "overlap" in facts:
        best = ", ".join(f"{ranks[0]:.3f}" for ranks in facts["agreement_by_rank"])
        return f"held-out agreement with the target by depth {best}"
    if "distances" in facts:
        best = ", ".join(f"{own:.3f} ({stale:.3f})" for own, stale in facts["distances"])
        return f"held-out distance from a forward's laws by step (without the network) {best}"
    if "accuracy" in facts:
        best = ", ".join(f"{name} {found['each']:.3f}" for name, found in facts["accuracy"].items())
        return f"held-out accuracy of one sample: {best}"
    if "solved" in facts:
        best = ", ".join(f"{name} {share:.3f}" for name, share in facts["solved"]["0"].items())
        return f"held-out problems solved one token a forward: {best}"
    if "policies" in facts:
        best = ", ".join(
            f"{label} {x['exact']:.3f} at {x['tokens_per_forward']:.2f} tokens a forward"
            for label, x in facts["policies"].items()
        )
        return f"held-out problems solved: {best}"
    if "discrimination" in facts:
        best = ", ".join(f"{name} {x['auc']:.3f}" for name, x in facts["discrimination"].items())
        return f"held-out area under the curve: {best}"
    return (
        f"held-out bits per byte {facts['held_out_bits_per_byte']:.3f} "
        f"(gzip -9 {facts['gzip_bits_per_byte']:.3f}, xz -9e {facts['xz_bits_per_byte']:.3f})"
    )


def _teacher(preset: Preset, config: TrainConfig, arguments: argparse.Namespace):
    name = arguments.teacher or preset.teacher
    if not config.distill:
        if arguments.teacher:
            raise ValueError(f"{arguments.name} does not distil, so it takes no --teacher")
        return None
    if name is None:
        raise ValueError(f"{arguments.name} distils and has no teacher of its own: give --teacher")
    checkpoint = loading.load(name)
    return checkpoint.model, checkpoint.params


def _start(config: TrainConfig):
    return None if config.start is None else loading.load(config.start).params
