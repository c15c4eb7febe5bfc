"""The README holds what it says: its quick start runs as printed, its tables are generated."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxdec
from jaxdec import catalogue

pytestmark = pytest.mark.usefixtures("quick_compilation")

README = Path(__file__).parents[1] / "README.md"


def snippets():
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_gaps_are_filled_as_printed(capsys):
    _, _, code, _ = snippets()
    names = {"jax": jax, "jaxdec": jaxdec}
    exec(code, names)
    filled, before, after = names["filled"], names["before"], names["after"]
    written = jaxdec.text.decode(filled.tokens[0])
    assert capsys.readouterr().out.startswith(written)
    assert written == before + "self._items" + after
    assert int(filled.stats.target_forwards[0]) == 4
    plain = jaxdec.infill(
        jaxdec.autoregressive(names["code"].model),
        {"target": names["code"].params},
        names["tokens"],
        names["visible"],
        rng=jax.random.key(0),
        temperature=0,
        banned=np.arange(jaxdec.text.VOCAB_SIZE) >= 256,
    )
    np.testing.assert_array_equal(plain.tokens, filled.tokens)


def test_canvases_are_filled_as_printed(capsys):
    *_, code = snippets()
    names = {"jax": jax, "jaxdec": jaxdec}
    exec(code, names)
    assert "return self.name" in capsys.readouterr().out
    forwards = int(names["written"].stats.target_forwards[0])
    assert forwards < 32
    assert int(names["written"].steps.max()) == forwards - 1


def test_the_command_line_continues_the_prompt_of_the_example():
    """Which is one that the shipped model knows how to continue."""
    (quoted,) = re.findall(r"^jaxdec denoise .*\$'(.*)'$", README.read_text(), re.M)
    *_, code = snippets()
    assert f'"""{quoted.encode().decode("unicode_escape")}"""' in code


def test_quick_start_runs_as_printed(capsys):
    code, trees, _, _ = snippets()
    names = {}
    exec(code, names)
    printed = capsys.readouterr().out
    assert printed.startswith("def fibonacci(n):\n")
    result, target = names["result"], names["target"]
    assert int(result.stats.target_forwards[0]) < 128
    assert result.status[0] in (jaxdec.Status.LENGTH, jaxdec.Status.EOS)
    plain = jaxdec.generate(
        jaxdec.autoregressive(target.model),
        {"target": target.params},
        names["prompt"],
        rng=jax.random.key(0),
        max_new_tokens=128,
        temperature=0.8,
    )
    length = int(plain.lengths[0])
    assert length == int(result.lengths[0])
    np.testing.assert_array_equal(plain.tokens[0, :length], result.tokens[0, :length])
    exec(trees, names)
    faster = names["faster"]
    np.testing.assert_array_equal(plain.tokens[0, :length], faster.tokens[0, :length])
    assert int(faster.stats.target_forwards[0]) < int(result.stats.target_forwards[0])


def test_methods_are_backed_by_files_that_exist():
    root = README.parent
    for method in catalogue.METHODS.values():
        assert (root / method.tests).is_file(), method.tests
        measured = list((root / "benchmarks" / "results").glob(f"{method.benchmark}-*.json"))
        assert measured or not method.benchmark, method.name
