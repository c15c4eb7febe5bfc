"""Problems of HumanEval-Infilling: how they are read, laid out for a model, and scored."""

import math

import jax
import numpy as np
import pytest

import jaxdec
from benchmarks import fills as scoring
from benchmarks import humaneval, sandbox
from benchmarks.humaneval import SUFFIX, WINDOW, Problem, batch, choose, load, parses
from benchmarks.sandbox import Outcome, Verdict
from benchmarks.workload import Variant
from jaxdec import text
from jaxdec.testing.oracles import hash_oracle
from tests.benchmarks import humaneval_files


@pytest.fixture
def problems(tmp_path, monkeypatch):
    """The problems that are made up here."""
    humaneval_files.write(tmp_path)
    monkeypatch.setenv("JAXDEC_DATA", str(tmp_path))
    return load("random span")


def problem(prefix=b"", gap=b"gap", suffix=b""):
    return Problem("name", prefix, gap, suffix, b"")


def test_problems_are_read(problems):
    whole = (humaneval_files.HEAD + humaneval_files.LINE).encode()
    assert [held.name for held in problems] == [f"L/HumanEval/{i}" for i in range(5)]
    assert problems[0].gap == b"a + b" and "naïvely".encode() in problems[0].prefix
    assert all(held.filled(held.gap) == whole for held in problems[:3])
    for kind in humaneval.FILES:
        assert load(kind) == problems


def test_the_true_text_passes_and_another_does_not(problems):
    for held in problems:
        assert sandbox.run(held.program(held.gap)).passed
    found = sandbox.run(problems[0].program(b"a - b"))
    assert found.verdict is Verdict.FAILED and found.reason.startswith("AssertionError")


def test_data_that_is_missing_or_broken(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDEC_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"no file .*the folder in JAXDEC_DATA must hold"):
        load("single line")
    path = tmp_path / humaneval.FILES["single line"]
    humaneval_files.write(tmp_path)
    for broken in (b"text", path.read_bytes()[:-20], path.read_bytes()[:20] + b"\xff" * 40):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="does not hold problems"):
            load("single line")
    monkeypatch.delenv("JAXDEC_DATA")
    assert humaneval.folder() == humaneval.ROOT.parent / "shared" / "data"


def test_the_subset_is_evenly_spaced_and_says_what_it_leaves_out(problems):
    subset = choose(problems, 9, 16)
    assert subset.problems == tuple(problems[:3])
    assert (subset.held, subset.empty, subset.too_long) == (5, 1, 1)
    many = [problem(gap=b"x" * (i % 10)) for i in range(100)]
    found = choose(many, 8, 4)
    assert (found.held, found.empty, found.too_long) == (100, 10, 50)
    fit = [held for held in many if 1 <= len(held.gap) <= 4]
    assert found.problems == tuple(fit[i] for i in range(0, 40, 5))
    assert choose(many, 8, 4) == found
    for count, longest, message in [
        (0, 4, "count must be at least 1"),
        (1, 400, "longest must be at most 383"),
        (1, 0, "none of 100 problems has a gap of 1 to 0 bytes"),
    ]:
        with pytest.raises(ValueError, match=message):
            choose(many, count, longest)


def test_a_short_file_is_read_whole():
    tokens, visible = problem(b"before", b"gap", b"after").row()
    assert tokens[0] == text.BOS and text.decode(tokens) == "beforeafter"
    assert (tokens[~visible] == text.MASK).all(), "the true text is not there to be read"
    np.testing.assert_array_equal(np.flatnonzero(~visible), [7, 8, 9])


def test_a_long_file_is_cut_to_what_is_nearest_the_gap():
    before, after = bytes(i % 251 for i in range(2000)), bytes(i % 241 for i in range(2000))
    tokens, visible = problem(before, b"x" * 60, after).row()
    assert len(tokens) == WINDOW and (~visible).sum() == 60
    np.testing.assert_array_equal(tokens[-SUFFIX:], text.to_ids(after[:SUFFIX]))
    room = WINDOW - SUFFIX - 60
    np.testing.assert_array_equal(tokens[:room], text.to_ids(before[-room:]))


def test_the_beginning_of_a_file_is_shown_where_it_fits():
    room = WINDOW - 3
    for length, first in [(room - 1, text.BOS), (room, ord("a"))]:
        tokens, _ = problem(b"a" * length).row()
        assert len(tokens) == WINDOW and tokens[0] == first
    tokens, visible = problem(suffix=b"after").row()
    assert tokens[0] == text.BOS and visible.tolist() == [True, *[False] * 3, *[True] * 5]


def test_batches_have_one_shape():
    held = batch([problem(b"one", b"1", b"!"), problem(b"three", b"333")], 4)
    assert held.tokens.shape == held.visible.shape == (4, WINDOW) and held.count == 2
    assert held.sizes.tolist() == [6, 9, 9, 9]
    assert (held.tokens[0, 6:] == text.PAD).all() and not held.visible[0, 6:].any()
    filled = held.filled([b"a", b"bcd"])
    assert text.decode(filled[0]) == "onea!" and text.decode(filled[1]) == "threebcd"
    assert held.fills(filled) == [b"a", b"bcd"]
    assert (held.tokens[0, held.gap(0)] == text.MASK).all(), "the batch itself stays as it was"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (b"x = 1\n", True),
        ("x = 'é'".encode(), True),
        (rb"x = '\d'", True),
        (b"x = ", False),
        (b"x = '\xff'", False),
        (b"x = 1\0", False),
        (b"(" * 1000, False),
    ],
)
def test_what_parses(source, expected, recwarn):
    assert parses(source) == expected
    assert not recwarn.list


def test_entropy_of_a_text():
    assert scoring.entropy(b"aaaa") == 0
    assert scoring.entropy(b"abab") == pytest.approx(1)
    assert scoring.entropy(bytes(range(64))) == pytest.approx(6)
    assert scoring.entropy(b"aaab") == pytest.approx(2 - 0.75 * math.log2(3))


@pytest.fixture
def oracle(quick_compilation):
    """A model of bytes with a law of its own at every place."""
    return hash_oracle(text.VOCAB_SIZE)


def sequential(oracle):
    model, params = oracle
    return Variant("sequential", jaxdec.autoregressive(model), {"target": params})


def test_filling_does_not_depend_on_the_batch(problems, oracle):
    some = problems[:3]
    fills, counted = scoring.fill(sequential(oracle), some, 2, 1.0)
    assert [len(fill) for fill in fills] == [len(held.gap) for held in some]
    assert scoring.fill(sequential(oracle), some, 4, 1.0) == (fills, counted)
    assert scoring.fill(sequential(oracle), some, 4, 0.0)[0] != fills
    size = sum(map(len, fills))
    assert counted["bytes"] == counted["target_forwards"] == size, "repeated rows do not count"
    assert counted["forwards_per_byte"] == 1 and counted["rows_per_byte"] == 2
    assert counted["acceptance"] is None and counted["draft_forwards_per_byte"] == 0


def test_only_bytes_are_filled_in(problems, oracle):
    fills, _ = scoring.fill(sequential(oracle), problems[:3], 4, 0.0)
    model, params = oracle
    biased = model, params.at[:, text.BOS :].add(100)
    assert scoring.fill(sequential(biased), problems[:3], 4, 0.0)[0] == fills


def test_a_gap_that_stays_open_is_an_error(problems, oracle):
    model, params = oracle
    with pytest.raises(RuntimeError, match="sequential left a gap open"):
        scoring.fill(sequential((model, params * np.nan)), problems[:3], 4, 0.0)


def test_scores(problems, oracle):
    held = problems[0]
    scorer = scoring.Scorer(*oracle, 4)
    fills = [held.gap, b"b + a", b"a - b", b"a + (", b"a\n  b", b"exit("]
    scores = scorer([held] * len(fills), fills)
    assert [score.exact for score in scores] == [True, *[False] * 5]
    assert [score.parses for score in scores] == [True, True, True, False, False, False]
    passed, failed = Verdict.PASSED, Verdict.FAILED
    assert [score.verdict for score in scores] == [passed, passed, *[failed] * 4]
    summary = scoring.summary(scores)
    assert summary["exact"] == 1 / 6 and summary["parses"] == 3 / 6 and summary["passes"] == 2 / 6
    assert summary["verdicts"] == {"passed": 2, "failed": 4, "timeout": 0, "memory": 0}
    assert summary["entropy"] == pytest.approx(sum(map(scoring.entropy, fills)) / 6)


def test_bits_are_those_of_sequential_filling(problems, oracle):
    (model, params), some = oracle, problems[:3]
    scorer = scoring.Scorer(model, params, 4)
    rows = batch(some, 4)
    filled = jaxdec.infill(
        jaxdec.autoregressive(model),
        {"target": params},
        rows.tokens,
        rows.visible,
        sizes=rows.sizes,
        rng=jax.random.key(0),
        banned=np.arange(text.VOCAB_SIZE) >= text.BOS,
    )
    expected = -filled.raw_log_probs.sum(1)[:3] / math.log(2)
    scores = scorer(some, rows.fills(np.asarray(filled.tokens)))
    np.testing.assert_allclose([score.bits for score in scores], expected, rtol=1e-5)
    size = sum(len(held.gap) for held in some)
    found = scoring.summary(scores)["bits_per_byte"]
    assert found == pytest.approx(float(expected.sum()) / size, rel=1e-5)


def test_a_text_is_run_once_and_what_does_not_parse_never(problems, oracle, monkeypatch):
    programs = []
    monkeypatch.setattr(
        sandbox, "run", lambda program: programs.append(program) or Outcome(Verdict.PASSED)
    )
    held, scorer = problems[0], scoring.Scorer(*oracle, 4)
    quote = b'"""a)'  # a file that swallows its own test would pass
    first = scorer([held, held, held], [b"a + b", quote, b"a + b"])
    again = scorer([held, problems[1]], [b"a + b", b"return b"])
    assert sorted(programs) == sorted([held.program(b"a + b"), problems[1].program(b"return b")])
    assert first[0] is first[2] is again[0]
    assert first[1].verdict is Verdict.FAILED


def test_agreement_with_the_baseline():
    found = scoring.agreement([b"abc", b"de"], [b"abc", b"dx"])
    assert found == {"identical": 4 / 5, "identical_rows": 1}
