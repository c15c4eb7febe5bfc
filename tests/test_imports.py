"""Imports point one way: see the layout in `docs/architecture.md`."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GROUND = {"jaxdec.sampling", "jaxdec.visibility", "jaxdec.cache", "jaxdec.model"}
DECODING = {"jaxdec.decoding"}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("jaxdec", "pallas_kernels")
    for path in sorted((ROOT / package).rglob("*.py"))
}
FAMILIES = (
    "jaxdec.autoregressive",
    "jaxdec.speculative",
    "jaxdec.any_subset",
    "jaxdec.diffusion",
)


def inside(module: str, parts) -> bool:
    return any(module == part or module.startswith(part + ".") for part in parts)


def imported(tree: ast.Module) -> set[str]:
    """Every module of this project that a file imports, wherever the import stands."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                names.add(whole if whole in MODULES else str(node.module))
    return {name for name in names if name.split(".")[0] in ("jaxdec", "pallas_kernels")}


def violations(module: str, names: set[str]) -> set[str]:
    """The imports that `module` must not have."""
    if module.startswith("pallas_kernels"):
        return {name for name in names if name.startswith("jaxdec")}
    if inside(module, GROUND):
        return {name for name in names if not inside(name, {*GROUND, "pallas_kernels"})}
    if inside(module, DECODING):
        return {name for name in names if not inside(name, {*GROUND, *DECODING})}
    for family in FAMILIES:
        if inside(module, {family}):
            allowed = {*GROUND, *DECODING, "pallas_kernels", family}
            # Another family is open to it by its public names only, those of the family's package.
            return {n for n in names if not inside(n, allowed) and n not in FAMILIES}
    return set()


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module):
    names = imported(ast.parse(MODULES[module].read_text(), str(MODULES[module])))
    assert violations(module, names) == set()


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("pallas_kernels.tree_attention.api", "from jaxdec import visibility"),
        ("jaxdec.cache.kv", "import jaxdec.decoding"),
        ("jaxdec.sampling.warp", "from jaxdec.models import Transformer"),
        ("jaxdec.decoding.loop", "from jaxdec.autoregressive import Autoregressive"),
        ("jaxdec.speculative.drafters.model", "def f():\n    from jaxdec import models"),
        ("jaxdec.speculative.loop", "from jaxdec.training.trainer import train"),
        ("jaxdec.autoregressive", "from jaxdec.speculative.tree import DraftTree"),
    ],
)
def test_a_wrong_import_is_seen(module, source):
    assert violations(module, imported(ast.parse(source)))
