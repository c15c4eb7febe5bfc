"""Policies, remask rules, stops and fusions against the published rules in Python floats."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdec.diffusion import Fuse, Remask, Stop, Unmask, unmask
from jaxdec.testing.parts import policy_twins as twins
from jaxdec.testing.parts.group_states import scored, standing
from jaxdec.testing.parts.policy_twins import GAPS, NO_NUMBERS, ROWS, Board, places_of

KNOBS: dict[str, Sequence[float]] = {
    "steps": (0, 1, 2, 3, 4, 2, 3, 20),
    "threshold": (0.3, 0.5, 0.7, 0.9, 0.4, 0.6, 0.5, 1.0),
    "eos_least": (0.4, 0.01, 0.0, 0.0, 0.4, 0.2, 0.3, 1.0),
    "eos_most": (1.0, 1.0, 0.5, 0.0, 1.0, 2.0, 0.1, 1.0),
    "factor": (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 1.0, 0.0),
    "entropy_bound": (0.0, 0.4, 0.9, 2.0, 3.0, 1.5, 1.0, 0.1),
    "block": (3, 1, 4, 5, 40, 2, 3, 6),
    "minimum": (1, 2, 3, 2, 1, 2, 3, 4),
    "early_gap": (1.9, 1.5, 1.2, 0.5, 1.0, 1.6, 1.4, 1.1),
    "middle_gap": (1.4, 1.2, 1.0, 0.9, 1.3, 1.1, 1.5, 0.8),
    "late_gap": (0.9, 1.0, 0.5, 1.2, 0.7, 0.8, 1.1, 0.6),
    "credit_alpha": (0.0, 0.7, 1.5, 0.7, 0.7, 0.3, 2.0, 1.0),
    "credit_beta": (0.8, 0.8, 0.0, 1.0, 0.5, 0.8, 0.9, 0.3),
    "credit_gamma": (0.2, 0.0, 1.0, 0.2, 0.5, 2.0, 0.2, 0.2),
}
"""Of each row of a board; among them those at which a rule is at its edge."""

NATS = (-2.0, -0.5, -1.0, -0.3, -0.8, -1.2, -0.5, 0.0)
SHAPES = ((7, 6), (12, 9))

Twin = Callable[..., list[int]]


def _values(part: Any, nats: bool = False) -> dict[str, np.ndarray]:
    found = {}
    for name, knob in part.knobs.items():
        values = NATS if nats and name == "threshold" else KNOBS[name]
        found[name] = np.asarray(values, np.int32 if knob.integer else np.float32)
    return found


def _traced(knobs: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: jnp.asarray(value) for name, value in knobs.items()}


def twin_of(policy: Unmask) -> Twin:
    """The published rule of one of jaxdec's own policies.

    Raises:
      ValueError: for a policy without one: give it a twin.
    """
    match policy:
        case unmask.Quota() if policy.by != "random" and not policy.jittered:
            return twins.quota(policy.by, policy.spread)
        case unmask.Threshold():
            return twins.threshold(policy.by)
        case unmask.Factor():
            return twins.factor(policy.by)
        case unmask.DynamicThreshold():
            return twins.dynamic_threshold(policy.by)
        case unmask.EntropyBound():
            return twins.entropy_bound
        case unmask.Saber():
            return twins.saber
        case unmask.FirstAlone():
            return twins.first_alone(twin_of(policy.policy))
        case unmask.InBlocks():
            return twins.in_blocks(twin_of(policy.policy))
        case unmask.EosEarlyRejection(policy=unmask.Quota(spread=spread)):
            return twins.eos_early_rejection(twin_of(policy.policy), spread)
        case unmask.LeftToRight():
            return lambda row: row.allowed[:1]
    raise ValueError(f"no twin of {policy} is known")


def check_policy(policy: Unmask, twin: Twin | None = None) -> None:
    """A policy commits what its rule says, step by step until boards of plain, tied and broken laws are full.

    Args:
      policy: its knobs must be among those of `KNOBS`.
      twin: `(row, **knobs) -> positions` of one row, see `policy_twins`; the published one if not given.

    Raises:
      AssertionError: at the first step and row that differ, or if a row makes no progress.
    """
    twin = twin_of(policy) if twin is None else twin
    knobs = _values(policy, getattr(policy, "by", "") == "entropy")
    shapes = [*SHAPES, SHAPES[-1]]  # the last once more: the next group of the same rows
    if policy.init(None, 1, 1) is None:
        shapes.pop()
    before: list[dict[Any, float]] = [{} for _ in range(ROWS)]
    state, last = None, None
    for seed, (width, vocab) in enumerate(shapes):
        board = Board(width, vocab, seed=width + seed)
        fresh = policy.init(None, ROWS, width)
        again = last == (width, vocab)
        state = policy.renew(None, state, fresh) if again else fresh
        board.past = [dict(known) if again else {} for known in before]
        last = (width, vocab)
        for _ in range(4 * width):
            if not board.allowed.any():
                break
            seen, rows = board.look()
            reveal, state = policy.choose(None, seen, state, _traced(knobs))
            chosen = np.asarray(reveal) & board.allowed
            for b, row in enumerate(rows):
                own = {name: values[b].item() for name, values in knobs.items()}
                wanted = sorted(set(twin(row, **own))) if row.allowed else []
                found = places_of(chosen[b])
                where = f"step {board.step}, row {b}, {own}"
                assert found == wanted, f"{where}: commits {found}, not {wanted}"
            board.commit(chosen)
        assert not board.allowed.any(), "a row makes no progress"
        before = [{(seed, at): value for at, value in past.items()} for past in board.past]
    _check_certain(policy, twin)


def _check_certain(policy: Unmask, twin: Twin) -> None:
    """Where every position is certain, the edges of comparisons show."""
    board = Board(*SHAPES[0], seed=5)
    knobs = {
        name: np.full(ROWS, 2 if name in ("steps", "minimum", "block") else 1.0)
        for name in policy.knobs
    }
    knobs = {
        k: v.astype(np.int32 if policy.knobs[k].integer else np.float32) for k, v in knobs.items()
    }
    if getattr(policy, "by", "") == "entropy" or "entropy_bound" in knobs:
        knobs = {k: 0 * v if k != "steps" else v for k, v in knobs.items()}
    seen, rows = board.look(sure=True)
    chosen, _ = policy.choose(None, seen, policy.init(None, ROWS, board.width), _traced(knobs))
    for b, row in enumerate(rows):
        own = {name: values[b].item() for name, values in knobs.items()}
        wanted = sorted(set(twin(row, **own))) if row.allowed else []
        found = places_of(np.asarray(chosen[b]) & board.allowed[b])
        assert found == wanted, f"all certain, {own}: commits {found}, not {wanted}"


def check_ancestral(policy: Unmask | None = None, steps: int = 4, draws: int = 4000) -> None:
    """In step i of S a masked position is committed with probability 1 / (S - i); the last step leaves none over."""
    policy = unmask.ancestral(steps) if policy is None else policy
    board = Board(*SHAPES[1], seed=2)
    knobs = {"steps": jnp.full(ROWS, steps, jnp.int32)}
    for step in range(steps):
        share, count = 0, 0
        for draw in range(draws // (ROWS * board.width)):
            board.step = step
            board.seed = draw
            seen, _ = board.look()
            chosen, _ = policy.choose(None, seen, None, knobs)
            share += int(np.asarray(chosen)[board.allowed].sum())
            count += int(board.allowed.sum())
        expected = 1 / (steps - step)
        sigma = math.sqrt(max(expected * (1 - expected), 0) / count)
        assert abs(share / count - expected) <= 5 * sigma, f"step {step}: {share / count}"


def check_remask(rule: Remask) -> None:
    """Saber's backtracking takes back what fell most, as many as published, and never what makes no progress."""
    for width in (7, 20):
        board, chance = Board(width, 6, seed=width), np.random.default_rng(8)
        knobs, state = _values(rule), rule.init(None, ROWS, width)
        before = [[0.0] * width for _ in range(ROWS)]
        for _ in range(6):
            seen, rows = board.look()
            reveal = board.allowed & (chance.random((ROWS, width)) < chance.random((ROWS, 1)))
            taken, state = rule.take_back(None, seen, jnp.asarray(reveal), state, _traced(knobs))
            back = np.asarray(taken)
            for b, row in enumerate(rows):
                now = [row.score("max_prob", at) for at in range(width)]
                wanted = twins.backtracking(
                    now,
                    before[b],
                    places_of(reveal[b]),
                    row.committed,
                    len(row.allowed),
                    row.step,
                    knobs["minimum"][b].item(),
                )
                found = places_of(back[b])
                where = f"step {row.step}, row {b}"
                assert found == sorted(wanted), f"{where}: takes back {found}, not {sorted(wanted)}"
                before[b] = now
            board.commit(reveal, back)


def check_stop(rule: Stop) -> None:
    """Prophet ends where the mean gap of open positions reaches the limit of the progress made, once and for all."""
    decided = set()
    for seed in range(3):
        board, knobs = Board(*SHAPES[1], seed=seed), _values(rule)
        while board.allowed.any():
            seen, rows = board.look()
            fresh = rule.init(None, ROWS, board.width)
            ended, state = rule.now(None, seen, fresh, _traced(knobs))
            now = np.asarray(ended)
            never = _traced({name: np.full_like(x, np.inf) for name, x in knobs.items()})
            kept = rule.now(None, seen, rule.renew(None, state, fresh), never)[0]
            np.testing.assert_array_equal(kept, now, err_msg="what was ended in the group before")
            top, second = np.asarray(seen.own.top, float), np.asarray(seen.own.second, float)
            for b, row in enumerate(rows):
                if not row.allowed or b in (GAPS, NO_NUMBERS):
                    continue
                done = Fraction(row.opened - len(row.allowed), row.opened)
                limit = ("early_gap", "middle_gap", "late_gap")[min(int(3 * done), 2)]
                gap = float(np.mean((top - second)[b, row.allowed]))
                wanted = gap >= knobs[limit][b]
                decided.add((limit, bool(wanted)))
                assert bool(now[b]) == wanted, f"row {b}, {done} done: gap {gap}, {limit}"
            chosen = np.zeros_like(board.allowed)
            for b in range(ROWS):
                chosen[b, places_of(board.allowed[b])[:1]] = True
            board.commit(chosen)
    assert len(decided) == 6


def check_fuse(rule: Fuse) -> None:
    """Credit of a position's most probable token fades and grows as published, at masked positions alone."""
    width, vocab = SHAPES[0]
    knobs = _values(rule)
    state = rule.init(None, ROWS, width)
    held = np.zeros((ROWS, width, vocab))
    base = np.random.default_rng(5).normal(size=(ROWS, width, vocab))
    for step in range(6):
        noise = np.random.default_rng(step).normal(size=base.shape)
        logits = (base + noise).astype(np.float32)
        masked = np.random.default_rng(step + 50).random((ROWS, width)) < 0.8
        fused, state = rule.fuse(None, scored(logits), standing(masked), state, _traced(knobs))
        for b, i in np.ndindex(ROWS, width):
            own = {name: values[b].item() for name, values in knobs.items()}
            law = twins.normalised(logits[b, i].astype(float))
            held[b, i] *= own["credit_beta"]
            if masked[b, i]:
                held[b, i, np.argmax(law)] += math.exp(own["credit_gamma"] * law.max())
            wanted = logits[b, i] + own["credit_alpha"] * np.log1p(held[b, i])
            np.testing.assert_allclose(
                fused[b, i],
                wanted,
                rtol=1e-4,
                atol=1e-5,
                err_msg=f"step {step}, row {b}, place {i}",
            )
