"""The training loop: optax steps over the corpus, orbax checkpoints, exact resumption.

Everything that a step reads is a function of the configuration and the step's number (its batch, its learning rate) or
lies in the checkpoint (parameters, optimizer state). A run that is killed continues from its last checkpoint along the
same curve, bit for bit on the same machine. A run may be given more steps: it continues from its last checkpoint with
the learning rates of the longer run.
"""

import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from optax import contrib

from jaxdec import text
from jaxdec.model import Model, Params, from_nnx
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.models.layers import balance_loss, recorded
from jaxdec.training import corpus, noising, objectives, run_folder, subsets
from jaxdec.training.noising import Noising
from jaxdec.training.subsets import Masking


class Source(Protocol):
    """What a run learns from: a `Corpus`, or a `TaskMixture`."""

    def fingerprint(self) -> str:
        """A hash: equal sources have equal fingerprints."""

    def train_stream(self) -> Any:
        """What batches are drawn from."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every run has: steps, batches and an optimizer.

    Attributes:
      steps: optimizer steps.
      batch: windows a step.
      length: tokens in a window.
      rows_at_once: windows whose gradient is computed at once; divides `batch`. Fewer fit the caches of a CPU.
      learning_rate: peak, for matrices (Muon); warms up linearly, then decays linearly to zero.
      adam_learning_rate: peak for embeddings and norms (AdamW).
      warmup: steps of warm-up.
      weight_decay: decoupled.
      seed: of initial weights and of batches.
      checkpoint_every: steps between checkpoints.
    """

    steps: int
    batch: int = 16
    length: int = 512
    rows_at_once: int = 4
    learning_rate: float = 0.02
    adam_learning_rate: float = 3e-3
    warmup: int = 100
    weight_decay: float = 0.01
    seed: int = 0
    checkpoint_every: int = 100

    def __post_init__(self):
        for name in ("steps", "batch", "length", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.rows_at_once < 1 or self.batch % self.rows_at_once:
            raise ValueError(
                f"rows_at_once must divide batch {self.batch}, got {self.rows_at_once}"
            )


@dataclasses.dataclass(frozen=True)
class TrainConfig(RunConfig):
    """A run that trains a transformer.

    Attributes:
      model: sizes of the transformer.
      distill: weight of the teacher's law in the loss; 0 for none.
      start: name of the checkpoint whose weights the run starts from; None for fresh ones.
      masking: visible sets of the any-subset objective, or masked sets of a diffusion objective; None for next-token
        prediction.
      balance: weight of the loss that spreads tokens evenly over the experts of a mixture (`balance_loss`); 0 for none.
    """

    model: TransformerConfig
    distill: float = 0.0
    start: str | None = None
    masking: Masking | Noising | None = None
    balance: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.distill <= 1:
            raise ValueError(f"distill must lie in [0, 1], got {self.distill}")
        if self.balance < 0 or (self.balance and self.model.mixture is None):
            raise ValueError(
                f"balance must be at least 0, and 0 without a mixture, got {self.balance}"
            )


def optimizer(config: RunConfig) -> optax.GradientTransformation:
    """Muon for the matrices of the blocks, AdamW for embeddings, the head and norms."""

    def schedule(peak):
        return optax.join_schedules(
            [
                optax.linear_schedule(0.0, peak, config.warmup),
                optax.linear_schedule(peak, 0.0, max(config.steps - config.warmup, 1)),
            ],
            [config.warmup],
        )

    def dimensions(params):
        def one(path, x):
            name = jax.tree_util.keystr(path)
            matrix = x.ndim == 2 and "embed" not in name and "lm_head" not in name
            return contrib.MuonDimensionNumbers(0, 1) if matrix else None

        return jax.tree_util.tree_map_with_path(one, params)

    return optax.chain(
        optax.clip_by_global_norm(1.0),
        contrib.muon(
            schedule(config.learning_rate),
            weight_decay=config.weight_decay,
            adam_b2=0.99,
            adam_learning_rate=schedule(config.adam_learning_rate),
            adam_weight_decay=config.weight_decay,
            muon_weight_dimension_numbers=dimensions,
        ),
    )


def build(config: TransformerConfig, seed: int = 0) -> tuple[Model, Params]:
    """A `Model` and fresh parameters, a plain nested dict of float32 arrays."""
    return from_nnx(Transformer(config, rngs=nnx.Rngs(seed)), eos=[text.EOS])


def train(
    config: TrainConfig,
    data: corpus.Corpus,
    folder: Path,
    *,
    teacher: tuple[Model, Params] | None = None,
    start: Params | None = None,
    report: Callable[[int, float, float], None] = lambda step, loss, seconds: None,
) -> tuple[Model, Params]:
    """Trains, or continues the training that a killed run left in `folder`.

    Args:
      config: the run; a folder continues only the configuration that it was started with, with as many steps or more.
      data: the corpus.
      folder: gets `config.json`, `losses.jsonl` (one line a step) and `state/` (checkpoints).
      teacher: the model to distil from, if `config.distill > 0`.
      start: weights of `config.start`, of the sizes of `config.model`; not read by a run that resumes.
      report: called with (steps done, loss in nats, seconds since the start) after each step.

    Returns:
      The model and its trained parameters.

    Raises:
      ValueError: if the folder holds another run, or a teacher or a start is missing or does not fit.
    """
    if (config.start is None) != (start is None):
        raise ValueError(
            f"the run starts from {config.start!r}, but its weights were {start and 'given'}"
        )
    if config.distill and teacher is None:
        raise ValueError(f"distill is {config.distill} but no teacher was given")
    if teacher is not None and teacher[0].vocab_size != config.model.vocab_size:
        raise ValueError(
            f"teacher has {teacher[0].vocab_size} tokens, the student {config.model.vocab_size}"
        )
    model, params = build(config.model, config.seed)
    if start is not None:
        params = _checked(start, params, config.start)
    draw, ask = _objective(config.masking)

    def loss(params, teacher_params, batch):
        with recorded() as routed:
            predictions = ask(model, params, batch)
        uneven = config.balance * balance_loss(routed) if config.balance else 0.0
        if not config.distill:
            return objectives.cross_entropy(predictions) + uneven
        assert teacher is not None
        law = ask(teacher[0], teacher_params, batch).logits
        return objectives.cross_entropy(predictions, law, config.distill) + uneven

    fixed = None if teacher is None else teacher[1]
    return model, descend(config, data, folder, params, draw, loss, fixed=fixed, report=report)


def descend(
    config: RunConfig,
    data: Source,
    folder: Path,
    params: Params,
    draw: Callable[..., Any],
    loss: Callable[[Params, Params, Any], jax.Array],
    *,
    fixed: Params = None,
    on_policy: bool = False,
    report: Callable[[int, float, float], None] = lambda step, loss, seconds: None,
) -> Params:
    """Takes the steps of a run, or those that a killed run left to do.

    Args:
      config: the run; a folder continues only the configuration that it was started with, with as many steps or more.
      data: what it learns from.
      folder: as for `train`.
      params: what a fresh run starts from.
      draw: `(stream, batch, length, seed, step) -> batch`, arrays with one row a window.
      loss: `(params, fixed, batch) -> nats` of `rows_at_once` rows.
      fixed: parameters that are not trained, those of a teacher; part of the run as the configuration is.
      on_policy: whether `draw` takes the parameters as they are then, `params=`, beside the rest.
      report: called with (steps done, loss in nats, seconds since the start) after each step.

    Returns:
      The trained parameters.

    Raises:
      ValueError: if the folder holds another run.
      FloatingPointError: if the loss is not finite.
    """
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    run = {**dataclasses.asdict(config), "corpus": data.fingerprint()}
    run_folder.claim(folder, run | ({} if fixed is None else {"teacher": fingerprint(fixed)}))
    update = optimizer(config)
    state = {"params": params, "optimizer": update.init(params)}
    stream = data.train_stream()

    @jax.jit
    def step_fn(state, batch, fixed):
        def accumulate(total, rows):
            return jax.tree.map(jnp.add, total, grad_fn(state["params"], fixed, rows)), None

        grad_fn = jax.value_and_grad(loss)
        groups = config.batch // config.rows_at_once
        batch = jax.tree.map(lambda x: x.reshape(groups, -1, *x.shape[1:]), batch)
        zero = jax.tree.map(jnp.zeros_like, (jnp.float32(0), state["params"]))
        total, _ = jax.lax.scan(accumulate, zero, batch)
        mean, grads = jax.tree.map(lambda x: x / groups, total)
        updates, optimizer_state = update.update(grads, state["optimizer"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        return {"params": params, "optimizer": optimizer_state}, mean

    with ocp.CheckpointManager(
        folder / "state", options=ocp.CheckpointManagerOptions(max_to_keep=2)
    ) as manager:
        start = manager.latest_step() or 0
        if start:
            state = manager.restore(start, args=ocp.args.StandardRestore(state))
        log = run_folder.losses(folder / "losses.jsonl", start)
        began = time.monotonic()
        with log:
            for step in range(start, config.steps):
                more = {"params": state["params"]} if on_policy else {}
                batch = draw(
                    stream,
                    batch=config.batch,
                    length=config.length,
                    seed=config.seed,
                    step=step,
                    **more,
                )
                batch = jax.tree.map(jnp.asarray, batch)
                state, mean = step_fn(state, batch, fixed)
                log.write(json.dumps({"step": step, "loss": float(mean)}) + "\n")
                log.flush()
                report(step + 1, float(mean), time.monotonic() - began)
                if not np.isfinite(mean):
                    raise FloatingPointError(f"the loss is {mean} at step {step}")
                if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
                    manager.save(step + 1, args=ocp.args.StandardSave(state))
        manager.wait_until_finished()
    return state["params"]


def _objective(
    masking: Masking | Noising | None,
) -> tuple[Callable[..., Any], Callable[..., objectives.Predictions]]:
    """What draws the batches of a run, and what asks a model for their predictions."""
    if masking is None:
        return corpus.crops, objectives.causal
    if isinstance(masking, Masking):
        return functools.partial(subsets.draw, masking=masking), objectives.any_subset
    ask = objectives.block_diffusion if masking.blocks else objectives.masked_diffusion
    return functools.partial(noising.draw, noising=masking), ask


def _checked(params: Params, like: Params, name: str | None) -> Params:
    """Parameters as float32, if they have the shapes of `like`."""
    shapes = lambda tree: jax.tree.map(lambda x: x.shape, tree)
    if shapes(params) != shapes(like):
        raise ValueError(f"the weights of {name!r} have other shapes than the model of this run")
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)


def fingerprint(params: Params) -> str:
    """A hash of parameters, their names and shapes."""
    digest = hashlib.sha256()
    for path, x in jax.tree_util.tree_leaves_with_path(params):
        x = np.asarray(x)
        digest.update(f"{jax.tree_util.keystr(path)} {x.dtype} {x.shape}".encode())
        digest.update(x.tobytes())
    return digest.hexdigest()[:16]
