"""The corpus: which files it takes, where they go, and which windows a step reads."""

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest

from jaxdec import text
from jaxdec.training import corpus
from jaxdec.training.corpus import Corpus, Source, crops, is_held_out, python_sources, read_sources


def fill(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_sources_are_read_in_order_of_their_names(tmp_path):
    fill(tmp_path, {"b.py": b"2", "a/z.py": b"1", "a.py": b"0", "notes.txt": b"x"})
    found = read_sources(tmp_path)
    assert [(s.name, s.content) for s in found] == [
        ("a.py", b"0"),
        ("a/z.py", b"1"),
        ("b.py", b"2"),
    ]


def test_folders_can_be_skipped_at_any_depth(tmp_path):
    fill(tmp_path, {"test/a.py": b"1", "x/test/b.py": b"1", "test.py": b"1", "x/c.py": b"1"})
    assert [s.name for s in read_sources(tmp_path, frozenset(["test"]))] == ["test.py", "x/c.py"]


def test_files_that_are_no_text_are_left_out(tmp_path):
    fill(
        tmp_path,
        {
            "good.py": "é = 1".encode(),
            "latin.py": "é = 1".encode("latin-1"),
            "empty.py": b"",
            "blank.py": b" \n\t\n",
            "large.py": b"x" * 1_000_001,
            "limit.py": b"x" * 1_000_000,
        },
    )
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "dangling.py").symlink_to(tmp_path / "nothing")
    assert [s.name for s in read_sources(tmp_path)] == ["good.py", "limit.py"]


def test_files_that_cannot_be_read_are_left_out(tmp_path, monkeypatch):
    fill(tmp_path, {"a.py": b"1", "locked.py": b"1", "z.py": b"1"})
    read_bytes = Path.read_bytes

    def refuse(path):
        if path.name == "locked.py":
            raise PermissionError(path)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert [s.name for s in read_sources(tmp_path)] == ["a.py", "z.py"]


def test_a_name_that_is_not_utf8_is_left_out(tmp_path):
    fill(tmp_path, {"a.py": b"1"})
    with contextlib.suppress(OSError):  # a file system that refuses such names holds none either
        (tmp_path / os.fsdecode(b"\xff.py")).write_bytes(b"1")
    assert [s.name for s in read_sources(tmp_path)] == ["a.py"]


@pytest.fixture
def interpreter(tmp_path, monkeypatch):
    """An interpreter whose library lies in `tmp_path`."""
    library, site = tmp_path / "lib", tmp_path / "site"
    paths = {"stdlib": str(library), "purelib": str(site), "platlib": str(site)}
    monkeypatch.setattr(corpus.sysconfig, "get_paths", lambda: paths)
    fill(library, {f"m{i}.py": f"x = {i}\n".encode() for i in range(200)})
    fill(site, {"jaxdec/a.py": b"1", "other/b.py": b"2"})
    return library


def names(sources):
    return {source.name for source in sources}


def test_the_split_is_deterministic_and_by_file(interpreter):
    first, second = python_sources(held_out=0.2), python_sources(held_out=0.2)
    assert first == second and first.fingerprint() == second.fingerprint()
    assert names(first.train) | names(first.held_out) == {f"m{i}.py" for i in range(200)}
    assert not names(first.train) & names(first.held_out)
    assert 20 <= len(first.held_out) <= 60


def test_a_files_side_does_not_depend_on_other_files(interpreter):
    before = python_sources(held_out=0.2)
    fill(interpreter, {f"new/n{i}.py": b"y\n" for i in range(50)})
    (interpreter / "m7.py").unlink()
    (interpreter / "m9.py").write_bytes(b"changed\n")
    after = python_sources(held_out=0.2)
    old = {f"m{i}.py" for i in range(200) if i != 7}
    for side in ("train", "held_out"):
        assert names(getattr(before, side)) & old == names(getattr(after, side)) & old
    assert before.fingerprint() != after.fingerprint()


def test_more_held_out_keeps_what_was_held_out():
    files = [f"f{i}.py" for i in range(300)]
    few, many = ({f for f in files if is_held_out(f, share)} for share in (0.05, 0.3))
    assert few < many


def test_packages_are_asked_for_and_never_this_one(interpreter):
    everything = python_sources(packages=True)
    found = names(everything.train) | names(everything.held_out)
    assert "packages/other/b.py" in found and "packages/jaxdec/a.py" not in found
    assert len(found) == 201


def test_errors(interpreter, tmp_path, monkeypatch):
    for share in (0, 1, -0.5):
        with pytest.raises(ValueError, match=rf"held_out must lie in \(0, 1\), got {share}"):
            python_sources(held_out=share)
    nowhere = str(tmp_path / "nowhere")
    monkeypatch.setattr(corpus.sysconfig, "get_paths", lambda: {"stdlib": nowhere})
    with pytest.raises(ValueError, match="no Python sources below"):
        python_sources()


def test_streams_mark_where_files_begin_and_end():
    held = Corpus(train=(Source("a", b"xy"), Source("b", b"z")), held_out=())
    expected = [text.BOS, 120, 121, text.EOS, text.BOS, 122, text.EOS]
    np.testing.assert_array_equal(held.train_stream(), expected)
    assert held.held_out_stream().shape == (0,)


def test_crops_are_a_pure_function_of_seed_and_step():
    stream = np.arange(500, dtype=np.int16)
    take = lambda seed, step: crops(stream, batch=6, length=9, seed=seed, step=step)
    first = take(1, 2)
    np.random.default_rng(0).random(10)
    np.testing.assert_array_equal(first, take(1, 2))
    assert first.shape == (6, 10) and first.dtype == np.int32
    np.testing.assert_array_equal(first - first[:, :1], np.broadcast_to(np.arange(10), (6, 10)))
    for other in (take(2, 1), take(1, 3), take(0, 2)):
        assert (first != other).any()


def test_crops_reach_both_ends_of_the_stream():
    stream = np.arange(5, dtype=np.int16)
    starts = {
        int(w[0]) for s in range(20) for w in crops(stream, batch=4, length=2, seed=0, step=s)
    }
    assert starts == {0, 1, 2}
    np.testing.assert_array_equal(crops(stream, batch=1, length=4, seed=0, step=0), [stream])
    with pytest.raises(ValueError, match="a stream of 5 tokens has no window of 6"):
        crops(stream, batch=1, length=5, seed=0, step=0)
