"""A new drafter, verifier or policy is one class and one row of the catalogue, and passes everything."""

import dataclasses
import functools

import jax.numpy as jnp
import pytest

from jaxdec import catalogue
from jaxdec.catalogue.canvas import denoising
from jaxdec.catalogue.speculation import RULES, Family, Rule
from jaxdec.decoding import Exactness
from jaxdec.diffusion import Unmask
from jaxdec.sampling import perturbed_argmax
from jaxdec.speculative import DraftTree, Verdict, Verifier, drafters
from jaxdec.speculative.drafters.causal import CausalDrafter
from jaxdec.testing import battery, check


@dataclasses.dataclass(frozen=True)
class Repeat(CausalDrafter):
    """Proposes the last token again, and again."""

    depth: int

    def propose(self, params, state, context):
        shape = (len(context.rows.length), self.depth)
        tokens = jnp.broadcast_to(context.rows.pending[:, None], shape)
        return DraftTree.chain(tokens, mask=jnp.ones(shape, bool)), None


@dataclasses.dataclass(frozen=True)
class LeadingMatches(Verifier):
    """Keeps the drafts of a chain up to the first that is not what plain decoding would draw."""

    exactness: Exactness = Exactness.TOKEN_IDENTICAL
    shares_noise: bool = True
    chains_only: bool = True
    needs_independence: bool = False

    def verify(self, params, tree, scored, log_probs, context):
        drawn = perturbed_argmax(log_probs, context.noise)  # [B, W]
        matches = tree.mask & (drawn[:, :-1] == tree.tokens)
        count = jnp.cumprod(matches, axis=1).sum(1).astype(jnp.int32)
        path = jnp.broadcast_to(jnp.arange(drawn.shape[1]), drawn.shape)
        following = jnp.take_along_axis(drawn, count[:, None], axis=1)[:, 0]
        return Verdict.of(tree, path, count, following, logits=scored.logits, log_probs=log_probs)


@dataclasses.dataclass(frozen=True)
class BothEnds(Unmask):
    """Commits the first and the last open position of the group."""

    def choose(self, params, seen, state, knobs):
        first = seen.allowed & (jnp.cumsum(seen.allowed, axis=1) == 1)
        last = seen.allowed & (jnp.cumsum(seen.allowed[:, ::-1], axis=1)[:, ::-1] == 1)
        return first | last, state


def drafter_rows(rule="walk"):
    family = Family(
        "repeat",
        "the last token again",
        "",
        lambda parts: Repeat(parts.length or 4),
        (rule,),
    )
    return family.rows()


def verifier_rows():
    RULES["leading"] = Rule(LeadingMatches, "leading matches")
    family = Family(
        "draft",
        "draft-model speculation",
        "2211.17192",
        lambda parts: drafters.model(parts.draft, length=parts.length),
        ("leading",),
        draft="code-draft",
    )
    return family.rows()


def policy_rows():
    return [denoising("both-ends", "canvas decoding from both ends", "", BothEnds)]


@pytest.fixture
def catalogued(monkeypatch):
    """Rows that are part of the catalogue while a test runs."""
    before = dict(RULES)

    def add(rows):
        for row in rows:
            monkeypatch.setitem(catalogue.METHODS, row.name, row)
        return rows

    yield add
    RULES.clear()
    RULES.update(before)


NEW = {
    "drafter": drafter_rows,
    "drafter, token by token": functools.partial(drafter_rows, "token"),
    "verifier": verifier_rows,
    "policy": policy_rows,
}


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(part, marks=pytest.mark.slow if "," in part else ())  # the law of its draws
        for part in NEW
    ],
)
def test_a_new_part_is_a_class_and_a_row(part, catalogued, quick_compilation):
    for row in catalogued(NEW[part]()):
        assert f"| `{row.name}`: {row.title}" in catalogue.markdown()
        for sample in row.samples.values():
            report = check(sample)
            assert report.exactness == row.exactness.value
            assert report.passed and "FAIL" not in str(report)


def test_a_new_part_that_is_wrong_is_reported(catalogued, quick_compilation):
    class Late(LeadingMatches):
        """Accepts one draft more than matches."""

        def verify(self, params, tree, scored, log_probs, context):
            verdict = super().verify(params, tree, scored, log_probs, context)
            count = jnp.minimum(verdict.count + 1, tree.depth)
            return dataclasses.replace(verdict, count=count)

    catalogued([])
    RULES["late"] = Rule(Late, "one late")
    (row,) = Family("repeat", "the last token again", "", lambda parts: Repeat(3), ("late",)).rows()
    report = check(row.sample, checks=battery.PARTS, read_left=False, raise_=False)
    error = report["identity"].error
    assert not report.passed and row.exactness is Exactness.TOKEN_IDENTICAL
    assert error.position is not None and error.expected != error.got
    assert f"row {error.row!r}, position {error.position}: expected {error.expected}" in str(report)
    assert "FAIL  identity" in str(report)
