"""The logits pipeline against a loop over tokens in float64."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.sampling import History, Warp

V = 12

OFF: dict[str, float] = {
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical": 1.0,
    "epsilon": 0.0,
    "top_h": 1.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
FILTERS = ("top_k", "top_p", "min_p", "typical", "epsilon", "top_h")
CHOICES: dict[str, tuple[float, ...]] = {
    "temperature": (0.0, 0.5, 0.8, 1.7),
    "top_k": (1, 3, 6, 50),
    "top_p": (0.3, 0.7, 0.93),
    "min_p": (0.02, 0.1, 0.4),
    "typical": (0.2, 0.6, 0.9),
    "epsilon": (0.003, 0.03, 0.2),
    "top_h": (0.2, 0.4, 0.8),
    "repetition_penalty": (0.8, 1.3, 2.0),
    "presence_penalty": (-0.4, 0.7),
    "frequency_penalty": (-0.3, 0.25),
}


def normalised(x: np.ndarray) -> np.ndarray:
    """Log-probabilities in float64."""
    top = np.max(x)
    return x - top - np.log(np.sum(np.exp(x - top)))


class _Row:
    """The surviving tokens of one law, and how firm each decision about them was."""

    def __init__(self, scores: np.ndarray):
        self.x = scores
        self.margin = [1.0]

    def alive(self) -> tuple[list[int], np.ndarray]:
        """Surviving tokens by falling probability, and the renormalised law."""
        law = normalised(self.x)
        return [v for v in np.argsort(-law, kind="stable") if np.isfinite(law[v])], law

    def keep(self, ranking: Sequence[int], count: int, score: np.ndarray) -> None:
        """Keeps the first `count`; the score gap at the cut says how firm that choice is."""
        if count < len(ranking):
            self.margin.append(abs(score[ranking[count]] - score[ranking[count - 1]]))
        self.x[list(ranking[count:])] = -np.inf

    def by_mass(self, ranking: Sequence[int], law: np.ndarray, mass: float, score) -> None:
        """Keeps tokens in their order while the mass before them is less than `mass`."""
        count, before = 0, 0.0
        for v in ranking:
            if count:
                self.margin.append(abs(before - mass))
            if before >= mass:
                break
            before += np.exp(law[v])
            count += 1
        self.keep(ranking, count, score)

    def by_entropy(self, share: float) -> None:
        """Keeps the longest prefix whose own entropy is at most a share of that of all."""
        order, law = self.alive()
        limit = share * -sum(np.exp(law[v]) * law[v] for v in order)
        count = 1
        for k in range(2, len(order) + 1):
            q = normalised(law[order[:k]])
            entropy = -np.sum(np.exp(q) * q)
            self.margin.append(abs(entropy - limit))
            if entropy > limit:
                break
            count = k
        self.keep(order, count, law)


def _penalised(logits, knob: Callable[[str], float], knobs, prompt, generated) -> np.ndarray:
    x = np.asarray(logits, np.float64) + knobs.get("logit_bias", 0.0)
    x = np.where(knobs.get("banned", False), -np.inf, x)
    for v in range(len(x)):
        if prompt[v] + generated[v] > 0 and np.isfinite(x[v]):
            r = knob("repetition_penalty")
            x[v] = x[v] / r if x[v] > 0 else x[v] * r
        x[v] -= knob("presence_penalty") * (generated[v] > 0)
        x[v] -= knob("frequency_penalty") * generated[v]
    return x


def warp_twin(
    logits: np.ndarray, knobs: Mapping[str, Any], prompt: np.ndarray, generated: np.ndarray
) -> tuple[np.ndarray, float]:
    """One law of `Warp.log_probs`, a stage at a time over token lists, in float64.

    Args:
      logits: `[V]`.
      knobs: settings of `Warp`, scalars or tables `[V]`.
      prompt: int `[V]`, how often each token stands in the prompt.
      generated: int `[V]`, how often each token was generated.

    Returns:
      Log-probabilities float64 `[V]`, and the distance to the nearest decision that float32 could tip.
    """
    knob = lambda name: float(np.float32(knobs.get(name, OFF[name])))
    row = _Row(_penalised(logits, knob, knobs, prompt, generated))
    if knob("temperature") == 0:
        ranked = np.sort(row.x)[::-1]
        out = np.full(len(row.x), -np.inf)
        out[np.argmax(row.x)] = 0.0
        return out, float(ranked[0] - ranked[1])
    row.x = row.x / knob("temperature")
    order, law = row.alive()
    if 0 < knob("top_k") < len(order):
        row.keep(order, int(knob("top_k")), law)
    order, law = row.alive()
    if knob("top_p") < 1:
        row.by_mass(order, law, knob("top_p"), law)
    order, law = row.alive()
    for v in order if knob("min_p") > 0 else ():
        edge = np.exp(law[v] - law[order[0]]) - knob("min_p")
        row.margin.append(abs(edge))
        if edge < 0:
            row.x[v] = -np.inf
    order, law = row.alive()
    if knob("typical") < 1:
        entropy = -sum(np.exp(law[v]) * law[v] for v in order)
        deviation = np.abs(-law - entropy)
        row.by_mass(sorted(order, key=lambda v: deviation[v]), law, knob("typical"), deviation)
    order, law = row.alive()
    for v in order[1:] if knob("epsilon") > 0 else ():
        row.margin.append(abs(np.exp(law[v]) - knob("epsilon")))
        if np.exp(law[v]) < knob("epsilon"):
            row.x[v] = -np.inf
    if knob("top_h") < 1:
        row.by_entropy(knob("top_h"))
    return normalised(row.x), float(min(row.margin))


def draw_knobs(rng: np.random.Generator, names: Sequence[str], batch: int) -> dict[str, np.ndarray]:
    """Each row its own values, a third of them off; `logit_bias` and `banned` are tables."""
    knobs: dict[str, np.ndarray] = {}
    for name in names:
        if name == "logit_bias":
            knobs[name] = rng.normal(size=(batch, V)).astype(np.float32)
        elif name == "banned":
            knobs[name] = rng.random((batch, V)) < 0.15
            knobs[name][:, 0] = False
        else:
            pool = np.array([OFF[name], *rng.choice(CHOICES[name], 2)])
            values = pool[rng.integers(0, 3, batch)]
            knobs[name] = values.astype(np.int32 if name == "top_k" else np.float32)
    return knobs


def draw_history(rng: np.random.Generator, batch: int, middle: tuple[int, ...] = ()) -> History:
    """Random counts."""
    prompt = rng.integers(0, 2, (batch, V)).astype(np.int32)
    generated = np.maximum(rng.integers(-2, 4, (batch, *middle, V)), 0).astype(np.int32)
    return History(jnp.asarray(prompt), jnp.asarray(generated))


def _boundaries() -> list[tuple[str, dict[str, Any], np.ndarray, list[int]]]:
    """Laws at which a decision is exactly on the edge: the setting, probabilities, and the tokens that stay."""
    half = np.array([0.5, 0.3, 0.1, 0.1])
    tied = np.full(4, 0.25)
    return [
        ("top-p, whose mass is reached exactly", dict(top_p=0.5), half, [0]),
        ("top-p above the mass of the first", dict(top_p=0.51), half, [0, 1]),
        ("top-k among equals", dict(top_k=2), tied, [0, 1]),
        ("epsilon above all", dict(epsilon=0.9), tied, [0]),
        ("min-p of one", dict(min_p=1.0), half, [0]),
        ("temperature 0 among equals", dict(temperature=0.0), tied, [0]),
        ("temperature before top-p", dict(temperature=0.5, top_p=0.65), half, [0]),
        ("top-k before top-p", dict(top_k=2, top_p=0.6), half, [0]),
        ("everything off", {}, half, [0, 1, 2, 3]),
    ]


def check_warp(
    log_probs: Callable[[Warp, jax.Array, History | None], jax.Array] = Warp.log_probs,
    rounds: int = 32,
) -> None:
    """The pipeline is that of `warp_twin`, at its edges too; broken and empty laws are NaN, and off is the identity.

    Args:
      log_probs: `(warp, logits [B, V], history) -> [B, V]`; that of `Warp` if not given.
      rounds: random batches of 16 rows.

    Raises:
      AssertionError: naming the row's settings.
    """
    batch = 16
    run = jax.jit(log_probs)
    names = (*OFF, "logit_bias", "banned")
    checked = 0
    for seed in range(rounds):
        rng = np.random.default_rng(seed)
        logits = (rng.normal(size=(batch, V)) * (1 + seed % 2)).astype(np.float32)
        logits[rng.random(logits.shape) < 0.05] = -np.inf
        logits[:, 0] = rng.normal(size=batch)  # never banned, so that no row is empty
        knobs, history = draw_knobs(rng, names, batch), draw_history(rng, batch)
        for row in range(
            0, batch, 2
        ):  # one filter alone, so that enough tokens are left to see it by
            for name in FILTERS:
                if name != FILTERS[(row // 2 + seed) % len(FILTERS)]:
                    knobs[name][row] = OFF[name]
        got = np.asarray(run(Warp(**knobs).validate(batch, V), jnp.asarray(logits), history))
        assert history.prompt is not None and history.generated is not None
        for row in range(batch):
            own = {name: value[row] for name, value in knobs.items()}
            counts = np.asarray(history.prompt[row]), np.asarray(history.generated[row])
            want, margin = warp_twin(logits[row], own, *counts)
            if margin > 1e-5:
                checked += 1
                np.testing.assert_allclose(got[row], want, atol=2e-5, err_msg=str(own))
    assert checked > 0.9 * batch * rounds
    _check_edges(run, names, batch)


def _check_edges(run, names: Sequence[str], batch: int) -> None:
    edges = _boundaries()
    logits = np.full((batch, V), -np.inf, np.float32)
    knobs = {name: np.full(batch, OFF[name]) for name in OFF}
    for row, (_, own, probabilities, _) in enumerate(edges):
        logits[row, : len(probabilities)] = np.log(probabilities)
        for name, value in own.items():
            knobs[name][row] = value
    knobs["top_k"] = knobs["top_k"].astype(int)
    logits[len(edges) :, :3] = 0.0
    logits[-1, 1] = np.nan  # banned, but the model is broken all the same
    logits[-3:-1, 1:] = -np.inf  # all that it allows is banned
    knobs["temperature"][-3] = 0.0
    tables = dict(logit_bias=np.zeros((batch, V)), banned=np.zeros((batch, V), bool))
    tables["banned"][-1, 1] = True
    tables["banned"][-3:-1, 0] = True
    none = History(jnp.zeros((batch, V), jnp.int32), jnp.zeros((batch, V), jnp.int32))
    warp = Warp(**knobs, **tables).validate(batch, V)
    got = np.asarray(run(warp, jnp.asarray(logits), none))
    for row, (what, _, probabilities, kept) in enumerate(edges):
        found = np.flatnonzero(np.isfinite(got[row])).tolist()
        assert found == kept, f"{what}: of the law {probabilities} it keeps {found}, not {kept}"
    assert np.isnan(got[-1]).all(), f"a law of a broken model: {got[-1]}"
    assert np.isnan(got[-3:-1]).all(), f"laws with no token left: {got[-3:-1]}"
    off = np.asarray(jax.nn.log_softmax(logits[len(edges) : -3]))
    np.testing.assert_array_equal(got[len(edges) : -3], off, "settings that are off")


def check_history() -> None:
    """Counts of prompts stop at their lengths, and those along a tree are counts of each path."""
    rng = np.random.default_rng(0)
    tokens, lengths = rng.integers(0, V, (4, 6)), np.array([6, 1, 3, 4])
    history = History.start(jnp.asarray(tokens), jnp.asarray(lengths), V)
    valid = rng.random((4, 6)) < 0.5
    after = history.add(jnp.asarray(tokens), jnp.asarray(valid))
    ancestors = np.tril(rng.random((4, 6, 6)) < 0.5)
    along = after.along(jnp.asarray(tokens), jnp.asarray(ancestors))
    count = lambda some: np.bincount(some, minlength=V)
    assert history.prompt is not None and after.generated is not None
    assert along.generated is not None
    for row in range(4):
        prompt = count(tokens[row, : lengths[row]])
        np.testing.assert_array_equal(history.prompt[row], prompt, "counts of a prompt")
        new = count(tokens[row][valid[row]])
        np.testing.assert_array_equal(after.generated[row], new, "counts of new tokens")
        for node in range(6):
            path = new + count(tokens[row][ancestors[row, node]])
            np.testing.assert_array_equal(along.generated[row, node], path, "counts of a path")
