"""`demo`, `info`, and what a shell sees of any command."""

import shutil

import pytest
from flax import nnx

from jaxdec import any_subset, catalogue, checkpoints, diffusion
from jaxdec.model import heads_from_nnx
from jaxdec.models import HeadsConfig, Medusa
from tests.cli.processes import start


def test_demo(jaxdec, pair):
    code, out, err = jaxdec("demo", *pair, "--max-new-tokens", 8)
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    for method in ("plain", "draft model", "prompt lookup"):
        words = method.split()
        found = [row for row in rows if row[: len(words)] == words and len(row) >= 4]
        assert [row[len(words)] for row in found] == ["0", "0.8"], out
        if method != "plain":
            assert [row[-1] for row in found] == ["yes", "yes"], out
    assert out.count("self._items = []") == 2  # the prompts are shown at both temperatures
    for column in ("tokens/forward", "acceptance", "tokens/s", "x plain", "identical"):
        assert sum(line.startswith(column) for line in out.splitlines()) == 1, column


def test_info(jaxdec, models, tmp_path, monkeypatch):
    shutil.copytree(models / "target", tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text("{")
    monkeypatch.setattr(checkpoints, "folder", lambda: tmp_path)
    code, out, err = jaxdec("info")
    assert (code, err) == (0, "")
    size = checkpoints.load(models / "target").size
    assert f"{size:,}" in out and "7.500" in out and "tiny" in out and "damaged" in out
    for method in catalogue.METHODS.values():
        line = next(line for line in out.splitlines() if line.split()[:1] == [method.name])
        assert method.exactness.value in line


def test_version_and_help(capsys):
    from jaxdec import __version__
    from jaxdec.cli import main

    for argv, part in [(["--version"], __version__), (["--help"], "generate")]:
        with pytest.raises(SystemExit) as ended:
            main(argv)
        assert ended.value.code == 0
        assert part in capsys.readouterr().out


def test_broken_pipe_is_quiet(pair):
    process = start("generate", "--prompt", "x", "--method", "lookup", *pair)
    process.stdout.close()
    _, err = process.communicate()
    assert (process.returncode, err) == (141, "")


@pytest.mark.parametrize("name", catalogue.METHODS)
def test_catalogue_states_what_the_decoder_promises(models, name):
    target = checkpoints.load(models / "target").model
    method = catalogue.METHODS[name]
    if method.infills:
        with pytest.raises(ValueError, match="causal"):
            method.make(catalogue.Parts(target, draft=target))
        target = any_subset.two_stream(target, mask_token=target.vocab_size - 1)
    if method.denoises:
        with pytest.raises(ValueError, match="causal"):
            method.make(catalogue.Parts(target))
        target = diffusion.canvas_model(target, mask_token=target.vocab_size - 1)
    draft = target
    if name.split("-")[0] in ("medusa", "hydra"):
        config = HeadsConfig(target.vocab_size, 8, heads=3)
        draft, _ = heads_from_nnx(Medusa(config, rngs=nnx.Rngs(0)))
    if name == "diffuspec":
        draft = diffusion.canvas_model(target, mask_token=target.vocab_size - 1)
    decoder = method.make(catalogue.Parts(target, draft=draft, length=3))
    assert decoder.exactness is method.exactness
    assert f"| `{name}`: {method.title}" in catalogue.markdown()
    assert method.exactness.value in catalogue.markdown()


def test_every_family_is_found_with_its_verifiers():
    names = {"autoregressive", *catalogue.INFILLING, *catalogue.DENOISING}
    for family in catalogue.FAMILIES[1:]:
        for verifier in catalogue.VERIFIERS:
            name = family if verifier == "walk" else f"{family}-{verifier}"
            if name in catalogue.METHODS:
                names.add(catalogue.find(family, verifier).name)
            else:
                with pytest.raises(ValueError, match=name):
                    catalogue.find(family, verifier)
    assert names == set(catalogue.METHODS)
    with pytest.raises(ValueError, match="draft model"):
        catalogue.find("draft").make(catalogue.Parts(None))
