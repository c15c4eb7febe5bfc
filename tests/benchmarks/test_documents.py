"""The documents hold what the results and the catalogue say, and nothing else is touched."""

import pytest

from benchmarks import ROOT, documents, report
from jaxdec import catalogue

METHODS = "# Methods\n" + "".join(
    f"<!-- {region}:{end} -->\n"
    for region in ("methods", "laws", "systems", "selections")
    for end in ("start", "end")
)


def marked(name, text=""):
    return f"<!-- {name}:start -->\n{text}<!-- {name}:end -->"


@pytest.fixture(scope="module")
def held():
    return report.load(report.RESULTS)


def test_documents_are_generated(held):
    """If this fails, `python -m benchmarks report --write` mends it."""
    for path, text in documents.documents(held).items():
        assert path.read_text() == text, path.name


def test_every_method_is_listed():
    page = (ROOT / "docs" / "methods.md").read_text()
    for name, method in catalogue.METHODS.items():
        assert f"| `{name}`: {method.title}" in page
    for system in [*catalogue.SYSTEMS.values(), *catalogue.SELECTIONS.values()]:
        assert f"| {system.name}: {system.title}" in page
        assert (ROOT / system.tests).is_file()
        assert (
            not system.benchmark
            or (ROOT / "benchmarks" / "cases" / f"{system.benchmark}.py").is_file()
        )


def test_the_small_table_has_ten_methods(held):
    assert len(documents.FIRST) == 10 and set(documents.FIRST) <= set(catalogue.METHODS)
    first, _, *rows = documents.small_table(held).partition("\n\n")[0].splitlines()
    assert len(rows) == 10
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    measured = documents.figures(held)
    assert len(measured) > 10
    for name, row in zip(documents.FIRST, rows, strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[0].startswith(f"`{name}`:")
        assert cells[1] == catalogue.METHODS[name].exactness.value
        if name not in measured:
            assert cells[2:] == ["–", "–", "–"]
            continue
        assert float(cells[2]) >= 1
        case = cells[4].partition("]")[0].strip("[")
        assert f"(docs/benchmarks.md#{case}-" in cells[4] and f"## {case}: " in page
    assert first.count("|") == rows[0].count("|")


def test_a_figure_with_a_clock_is_preferred(held):
    found = documents.figures(held)
    figures, place = found["draft"]
    (grown,) = [result for result in held if result["case"] == "grown"]
    (row,) = [
        row
        for row in grown["rows"]
        if row["method"] == "draft 6" and round(row["parameters"] / 1e6) == 25
    ]
    assert place == "grown: cpu"
    assert (figures.tokens_per_forward, figures.times_plain) == (
        row["tokens_per_forward"],
        row["wall_ratio"],
    )
    assert documents.figures(held[::-1])["draft"][0].times_plain is not None


def test_markers_are_rewritten_idempotently(held, tmp_path):
    (tmp_path / "docs").mkdir()
    names = ("README.md", "docs/methods.md", "docs/benchmarks.md")
    (tmp_path / names[0]).write_text(f"# Before\n{marked('methods', 'stale')}\nafter\n")
    (tmp_path / names[1]).write_text(METHODS)
    documents.write(held, tmp_path)
    once = [(tmp_path / name).read_text() for name in names]
    assert once[0].startswith("# Before\n") and once[0].endswith("\nafter\n")
    assert "stale" not in once[0] and "`eagle`" in once[0]
    assert "`saber`" in once[1] and "compile s" in once[2]
    documents.write(held, tmp_path)
    assert [(tmp_path / name).read_text() for name in names] == once


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "<!-- methods:start -->",
        "<!-- methods:end --><!-- methods:start -->",
        marked("methods") + "<!-- methods:end -->",
    ],
)
def test_broken_markers_leave_the_files_alone(tmp_path, broken):
    (tmp_path / "README.md").write_text(broken)
    with pytest.raises(ValueError, match="each once"):
        documents.write([], tmp_path)
    (tmp_path / "README.md").write_text(marked("methods"))
    with pytest.raises(ValueError, match=r"no docs/methods.md"):
        documents.write([], tmp_path)
    assert (tmp_path / "README.md").read_text() == marked("methods")
    assert not (tmp_path / "docs").exists()
