"""Maps of commits and confidences, curves, trees of drafts and of hypotheses, drawn without a screen."""

import subprocess
import sys
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest

from jaxdec import plotting, text

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TOKENS = np.array([text.BOS, *b"ab\n$defg"])
STEPS = np.array([-1, 0, -1, 2, -1, 1, -1, 0, 2])
VISIBLE = np.array([1, 0, 1, 0, 1, 0, 0, 0, 0], bool)  # position 6 is not filled


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def draw(tokens=TOKENS, visible=VISIBLE, steps=STEPS, drafted=None, **options):
    ax = plotting.commit_map(tokens, visible, steps, drafted, **options)
    ax.figure.canvas.draw()
    return ax


def letters(ax):
    return {label.get_position(): label.get_text() for label in ax.texts}


def test_lines_end_at_newlines_and_wrap():
    ax = draw(columns=4)
    grid = ax.images[0].get_array()
    steps = [[-1, 0, -1, 2], [-1, 1, -1, 0], [2, -1, -1, -1]]
    np.testing.assert_array_equal(grid.filled(-1), steps)
    assert letters(ax) == {
        **{(0, 0): "", (1, 0): "a", (2, 0): "b", (3, 0): "↵"},
        **{(0, 1): "$", (1, 1): "d", (3, 1): "f", (0, 2): "g"},  # none where nothing is filled
    }
    grey = {(bar.get_x() + 0.5, bar.get_y() + 0.5) for bar in ax.containers[0]}
    assert grey == {(0, 0), (2, 0), (0, 1)}


def test_the_token_of_an_unfilled_position_is_not_read():
    tokens = np.where(np.arange(9) == 6, ord("\n"), TOKENS)
    assert draw(tokens=tokens, columns=8).images[0].get_array().shape == (2, 5)


def test_drafted_positions_are_underlined():
    drafted = np.arange(9) == 5
    ax = draw(drafted=drafted, columns=4)
    (bar,) = ax.containers[1]
    assert bar.get_x() + bar.get_width() / 2 == pytest.approx(1)
    assert 1 < bar.get_y() < 1.5  # in the lower half of line 1
    labels = lambda ax: [label.get_text() for label in ax.get_legend().get_texts()]
    assert labels(ax) == ["visible", "drafted and accepted"]
    assert labels(draw()) == ["visible"]


def test_large_maps_carry_no_characters():
    size = plotting.LETTERED + 1
    ax = draw(np.full(size, 97), np.zeros(size, bool), np.arange(size))
    assert not ax.texts
    assert ax.images[0].get_array().count() == size


def test_it_draws_where_it_is_told():
    _, (left, right) = plt.subplots(1, 2)
    assert draw(ax=right) is right
    assert not left.images


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(tokens=TOKENS[None]), r"tokens must be int \[L\].* got int64 \[1, 9\]"),
        (dict(tokens=TOKENS[:0]), r"tokens must be int \[L\] with L of at least 1"),
        (dict(visible=VISIBLE.astype(int)), r"visible must be bool \[L\].* got int64 \[9\]"),
        (dict(steps=STEPS[1:]), "steps must have the length 9 of tokens, got 8"),
        (dict(drafted=VISIBLE[1:]), "drafted must have the length 9 of tokens, got 8"),
        (dict(steps=STEPS - 1), "steps must be at least -1, got -2"),
        (dict(steps=STEPS + 1), "position 0 is visible but has step 0"),
        (dict(columns=0), "columns must be at least 1, got 0"),
    ],
)
def test_impossible_maps(options, message):
    with pytest.raises(ValueError, match=message):
        draw(**options)


CONFIDENCE = np.array([0.3, 0.9, np.nan, 0.5, 1, 0, np.nan, 1, 0.25])


def test_confidences_are_laid_out_as_steps_are():
    ax = plotting.confidence_map(TOKENS, VISIBLE, CONFIDENCE, columns=4)
    ax.figure.canvas.draw()
    (image,) = ax.images
    grid = [[-1, 0.9, -1, 0.5], [-1, 0, -1, 1], [0.25, -1, -1, -1]]  # none at visible positions
    np.testing.assert_array_equal(image.get_array().filled(-1), grid)
    assert image.get_clim() == (0, 1)
    assert image.colorbar.ax.get_ylabel() == "probability when committed"
    commits = draw(columns=4)
    assert letters(ax) == letters(commits)
    assert (ax.get_xlim(), ax.get_ylim()) == (commits.get_xlim(), commits.get_ylim())
    colors = {label.get_text(): label.get_color() for label in ax.texts}
    assert (colors["a"], colors["d"]) == ("black", "white")  # readable on light and on dark


@pytest.mark.parametrize(
    ("confidence", "message"),
    [
        (STEPS, r"confidence must be float \[L\].* got int64 \[9\]"),
        (CONFIDENCE[1:], "confidence must have the length 9 of tokens, got 8"),
        (np.full(9, 1.5), r"confidence must lie in \[0, 1\], got 1.5 at position 1"),
        (np.full(9, -0.5), r"got -0.5 at position 1"),
    ],
)
def test_impossible_confidences(confidence, message):
    with pytest.raises(ValueError, match=message):
        plotting.confidence_map(TOKENS, VISIBLE, confidence)


def test_a_trade_off_has_a_line_a_policy():
    points = {"threshold": [(1.0, 2.0), (3.0, 2.5), (2.0, 2.2)], "quota": [(4, 3)]}
    ax = plotting.trade_off(points)
    ax.figure.canvas.draw()
    drawn = {line.get_label(): [tuple(xy) for xy in line.get_xydata()] for line in ax.lines}
    assert drawn == points  # in the order of the knob's values
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("tokens per forward", "bits per byte")
    _, other = plt.subplots()
    assert plotting.trade_off(points, ax=other) is other


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ({}, "no policy"),
        ({"none": []}, r"'none' must be pairs \[N, 2\], N at least 1, got \[0\]"),
        ({"three": [(1, 2, 3)]}, r"'three' must be pairs .* got \[1, 3\]"),
        ({"far": [(1, float("inf"))]}, "'far' must be finite"),
    ],
)
def test_impossible_trade_offs(points, message):
    with pytest.raises(ValueError, match=message):
        plotting.trade_off(points)


def test_budgets_of_nodes_double():
    points = {"sequoia": [(4.0, 2.0), (8.0, 2.5)], "comb": [(4, 1.5)]}
    ax = plotting.node_budgets(points)
    ax.figure.canvas.draw()
    drawn = {line.get_label(): [tuple(xy) for xy in line.get_xydata()] for line in ax.lines}
    assert drawn == points
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("nodes of the tree", "tokens per forward")
    assert ax.get_xscale() == "log" and "8" in [t.get_text() for t in ax.get_xticklabels()]
    with pytest.raises(ValueError, match="no method"):
        plotting.node_budgets({})


def test_names_stand_at_the_ends_of_lines_without_overlap():
    ax = plotting.node_budgets({"a": [(8, 1.0), (4, 5.0)], "b": [(4, 3.0), (8, 1.01)]})
    ax.axhline(4.0, label="level")
    ax.axhline(2.0)
    assert plotting.label_lines(ax, gap=0.1) is ax and ax.get_legend() is None
    ax.figure.canvas.draw()
    names = {label.get_text(): label for label in ax.texts}
    assert list(names) == ["a", "b", "level"]
    for line, name in zip(ax.lines, names.values(), strict=False):
        assert name.get_color() == line.get_color()
    heights = {name: label.xy[1] for name, label in names.items()}
    at = lambda y: ax.transAxes.inverted().transform(ax.transData.transform((8, y)))[1]
    assert heights["a"] == pytest.approx(at(1.0)) and heights["level"] == pytest.approx(at(4.0))
    assert heights["b"] == pytest.approx(heights["a"] + 0.1)
    with pytest.raises(ValueError, match=r"gap must lie in \[0, 1\), got 1"):
        plotting.label_lines(ax, gap=1)


def test_bars_stand_in_groups_from_the_top():
    speed = {"plain": 1.0, "draft": 1.5}
    series = {"tokens": {"plain": 1.0, "draft": 3.0}, "speed": speed}
    ax = plotting.bars(series, spreads={"speed": {"plain": (1.0, 1.0), "draft": (1.2, 2.0)}})
    ax.figure.canvas.draw()
    whiskers, *groups = sorted(ax.containers, key=lambda held: not hasattr(held, "has_xerr"))
    widths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in groups}
    assert widths == {"tokens": [1, 3], "speed": [1, 1.5]}
    assert [label.get_text() for label in ax.get_yticklabels()] == ["plain", "draft"]
    assert ax.yaxis_inverted() and ax.lines[0].get_xdata()[0] == 1
    segments = whiskers.lines[2][0].get_segments()
    assert segments[1][:, 0].tolist() == pytest.approx([1.2, 2.0])


@pytest.mark.parametrize(
    ("series", "message"),
    [
        ({}, "no method"),
        ({"tokens": {}}, "no method"),
        ({"tokens": {"a": 1.0}, "speed": {"b": 1.0}}, r"'speed' must have the methods \['a'\]"),
    ],
)
def test_impossible_bars(series, message):
    with pytest.raises(ValueError, match=message):
        plotting.bars(series)


def explained():
    """`a` with children `b` (then ` `, then a byte that is not drawn) and `c`; node 3 of row 1 does not exist."""
    tree = SimpleNamespace(
        tokens=np.array([list(b"bc e"), list(b"bc e")]),
        parents=np.array([[-1, -1, 0, 0]] * 2),
        mask=np.array([[1, 1, 1, 1], [1, 1, 1, 0]], bool),
    )
    verdict = SimpleNamespace(
        path=np.array([[0, 1, 3], [0, 2, 0]]), count=np.array([2, 0]), next_token=np.array([36, 10])
    )
    return SimpleNamespace(pending=np.array([97, 97]), tree=tree, verdict=verdict)


def test_a_draft_tree_shows_its_path():
    ax = plotting.draft_tree(explained())
    ax.figure.canvas.draw()
    places = {(0, 0): "a", (1, 0): "b", (2, 0): "␣", (3, 0): "$", (2, -1): "e", (1, -2): "c"}
    assert letters(ax) == places
    faces = {label.get_text(): label.get_bbox_patch().get_facecolor() for label in ax.texts}
    green, grey = faces["b"], faces["c"]
    assert green == faces["␣"] and grey == faces["e"]
    assert len({green, grey, faces["a"], faces["$"]}) == 4
    ends = {tuple(line.get_xydata()[-1]): line.get_linewidth() for line in ax.lines}
    assert {place for place, width in ends.items() if width > 1} == {(1, 0), (2, 0), (3, 0)}
    assert len(ends) == 5


def test_a_draft_tree_without_accepted_nodes():
    _, other = plt.subplots()
    ax = plotting.draft_tree(explained(), row=1, ax=other)
    assert ax is other
    assert letters(ax) == {(0, 0): "a", (1, 0): "b", (2, 0): "␣", (1, -1): "c", (1, -2): "↵"}
    with pytest.raises(ValueError, match=r"row must lie in \[0, 1\], got 2"):
        plotting.draft_tree(explained(), row=2)


def test_the_tokens_of_a_tree_are_written_as_asked():
    narrow = plotting.draft_tree(explained())
    wide = plotting.draft_tree(explained(), label=lambda token: f"<{token}>")
    assert letters(wide)[1, 0] == "<98>" and letters(wide).keys() == letters(narrow).keys()
    assert wide.figure.get_figwidth() > narrow.figure.get_figwidth()


def test_acceptance_has_a_line_a_method():
    shares = {"chain": [0.7, 0.5, 0.5], "tree": [1.0, 0]}
    ax = plotting.acceptance_by_depth(shares)
    ax.figure.canvas.draw()
    drawn = {line.get_label(): [tuple(xy) for xy in line.get_xydata()] for line in ax.lines}
    assert drawn == {"chain": [(1, 0.7), (2, 0.5), (3, 0.5)], "tree": [(1, 1), (2, 0)]}
    assert ax.get_xticks().tolist() == [1, 2, 3]
    _, other = plt.subplots()
    assert plotting.acceptance_by_depth(shares, ax=other) is other


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({}, "no method"),
        ({"none": []}, r"'none' must be \[D\], D at least 1, got \[0\]"),
        ({"rises": [0.5, 0.6]}, "'rises' must lie in .* never rise, got 0.6 at depth 2"),
        ({"sure": [1.5]}, "got 1.5 at depth 1"),
        ({"below": [-0.5]}, "got -0.5 at depth 1"),
    ],
)
def test_impossible_acceptance(shares, message):
    with pytest.raises(ValueError, match=message):
        plotting.acceptance_by_depth(shares)


def test_votes_have_error_bars():
    points = {"majority": [(1.0, 0.5, 0.1), (8.0, 0.75, 0.05)], "best": [(4, 0.25, 0)]}
    ax = plotting.voting_curves(points)
    ax.figure.canvas.draw()
    drawn = {held.get_label(): held for held in ax.containers}
    assert drawn.keys() == points.keys() and ax.get_xscale() == "log"
    for name, curve in points.items():
        line, _, (bars,) = drawn[name]
        assert [tuple(xy) for xy in line.get_xydata()] == [point[:2] for point in curve]
        for (x, y, error), segment in zip(curve, bars.get_segments(), strict=True):
            np.testing.assert_allclose(segment, [(x, y - error), (x, y + error)])
    with pytest.raises(ValueError, match=r"'a' must be triples \[N, 3\], .* got \[1, 2\]"):
        plotting.voting_curves({"a": [(1, 2)]})
    with pytest.raises(ValueError, match="errors of 'a' must be at least 0, got -1"):
        plotting.voting_curves({"a": [(1, 0.5, -1)]})
    with pytest.raises(ValueError, match="no rule"):
        plotting.voting_curves({})


TEXTS = [b">ab c", b">abx", b">ab c", b">ab", b">zz\n"]  # 0 and 2 are alike, 3 begins all but 4


def hypotheses(texts=TEXTS, weights=(0.1, 0.5, 0.1, 0.0, 0.3), **options):
    lengths = [len(one) for one in texts]
    tokens = np.array([[*one, *[0] * (8 - len(one))] for one in texts])
    ax = plotting.hypothesis_tree(tokens, lengths, weights, **options)
    ax.figure.canvas.draw()
    return ax


def test_hypotheses_share_what_they_have_in_common():
    ax = hypotheses(start=1)
    pieces = {(x, y): label for (x, y), label in letters(ax).items() if "(" not in label}
    # The heaviest goes on in its line: what three share, then x; below it the twins, and the one that ends there.
    assert pieces == {
        **{(0, 0): "", (1, 0): "ab", (4, 0): "x"},
        **{(4, -1): " c", (4, -2): "", (1, -3): "zz↵"},
    }
    (dots,) = ax.collections[:1]
    np.testing.assert_allclose(dots.get_array(), [0.5, 0.2, 0.0, 0.3])
    np.testing.assert_allclose(dots.get_offsets()[:, 1], [0, -1, -2, -3])
    leaves = [label.get_text() for label in ax.texts if "(" in label.get_text()]
    assert leaves == ["0.50  (1)", "0.20  (0, 2)", "0.00  (3)", "0.30  (4)"]


def test_pieces_are_written_as_asked():
    _, other = plt.subplots()
    ax = hypotheses(
        [b"abcdefg", b"abcdefh"], (1, 0), most=4, ax=other, label=lambda t: chr(t).upper()
    )
    assert ax is other
    assert letters(ax)[0, 0] == "AB…F" and letters(ax)[5, -1] == "H"
    alone = hypotheses([b"abc"], [0.0])  # one hypothesis without any weight
    assert letters(alone)[0, 0] == "abc"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(texts=[b"a"] * 4), r"weights must be \[H\], H = 4, got \[5\]"),
        (dict(weights=(0, 0, 0, 0, -1)), "weights must be finite and at least 0"),
        (dict(start=4), r"lengths must lie in \[4, 8\], from start to L, got \[5, 4, 5, 3, 4\]"),
        (dict(most=2), "most must be at least 3, got 2"),
    ],
)
def test_impossible_hypotheses(options, message):
    with pytest.raises(ValueError, match=message):
        hypotheses(**options)
    with pytest.raises(ValueError, match=r"tokens must be int \[H, L\], .* got float64 \[1\]"):
        plotting.hypothesis_tree([0.5], [1], [1])


def test_weights_over_boundaries():
    log_weights = np.log([[1, 1, 1, 1], [3, 1, 1e-30, 1e-30], [0.5, 0.5, 1e-30, 1e-30]])
    log_weights[2, 2:] = -np.inf
    ax = plotting.weight_history([*log_weights, [-np.inf] * 4], moved=[0, 1, 0, 0])
    ax.figure.canvas.draw()
    heights = np.array([[bar.get_height() for bar in held] for held in ax.containers])
    shares = [[0.25] * 4, [0.75, 0.25, 0, 0], [0.5, 0.5, 0, 0], [0] * 4]
    np.testing.assert_allclose(heights.T, shares, atol=1e-12)
    line, marks = ax.lines
    np.testing.assert_allclose(line.get_ydata(), [1, 1 / 0.625 / 4, 0.5, 0])
    assert marks.get_xdata().tolist() == [2]
    assert len(plotting.weight_history([[0.0]]).lines) == 1  # nothing was drawn again
    with pytest.raises(ValueError, match=r"log_weights must be \[T, H\], .* got \[2\]"):
        plotting.weight_history([0, 0])
    with pytest.raises(ValueError, match="below infinity"):
        plotting.weight_history([[np.nan, 0]])
    with pytest.raises(ValueError, match=r"moved must be \[T\], T = 1, got \[2\]"):
        plotting.weight_history([[0, 0]], moved=[1, 0])


def test_matplotlib_is_imported_by_the_call():
    code = "import sys, jaxdec, jaxdec.plotting; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
