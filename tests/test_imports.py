"""Imports point one way: see the layout in `docs/architecture.md`."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("jaxdec", "pallas_kernels")
    for path in sorted((ROOT / package).rglob("*.py"))
}
GROUND = {
    "jaxdec.arguments",
    "jaxdec.sampling",
    "jaxdec.visibility",
    "jaxdec.cache",
    "jaxdec.model",
}
FAMILIES = {
    "jaxdec.autoregressive",
    "jaxdec.speculative",
    "jaxdec.any_subset",
    "jaxdec.byte_level",
    "jaxdec.diffusion",
    "jaxdec.search",
}
ALONE = {"jaxdec.text", "jaxdec.files"}
DECODERS = {*GROUND, *FAMILIES, "jaxdec.decoding", "jaxdec.parallel"}
MAY_IMPORT: dict[str, set[str]] = {
    **{name: set() for name in ALONE},
    **{name: {*GROUND, "pallas_kernels"} for name in GROUND},
    "jaxdec.parallel": {*GROUND, "pallas_kernels"},
    "jaxdec.decoding": {*GROUND, "jaxdec.parallel"},
    # Another family is open to a family by its public names only, those of the family's package.
    **{name: {*GROUND, "jaxdec.decoding", "pallas_kernels"} for name in FAMILIES},
    "jaxdec.generation": {*DECODERS, *ALONE},
    "jaxdec.planning": {
        *DECODERS, *ALONE, "jaxdec.generation", "jaxdec.models", "jaxdec.checkpoint_folder",
        "jaxdec.catalogue", "pallas_kernels",
    },
    "jaxdec.measuring": {"jaxdec", *DECODERS, "jaxdec.files", "jaxdec.generation"},
    "jaxdec.plotting": DECODERS,
    "jaxdec.models": {*GROUND, *ALONE, "jaxdec.parallel", "pallas_kernels"},
    "jaxdec.checkpoint_folder": {*ALONE, "jaxdec.models"},
    "jaxdec.checkpoints": {*DECODERS, *ALONE, "jaxdec.models", "jaxdec.checkpoint_folder"},
    "jaxdec.training": {
        *DECODERS, *ALONE, "jaxdec.generation", "jaxdec.models", "jaxdec.checkpoints", "pallas_kernels",
    },
    "jaxdec.testing": {
        "jaxdec", *DECODERS, "jaxdec.text", "jaxdec.generation", "jaxdec.models", "pallas_kernels",
    },
    "jaxdec.catalogue": {*DECODERS, "jaxdec.models", "jaxdec.checkpoints", "jaxdec.testing"},
    "jaxdec.public": {
        *DECODERS, *ALONE, "jaxdec.generation", "jaxdec.models", "jaxdec.checkpoints", "jaxdec.measuring",
    },
    "jaxdec.cli": {
        "jaxdec", *DECODERS, *ALONE, "jaxdec.generation", "jaxdec.measuring", "jaxdec.plotting", "jaxdec.models",
        "jaxdec.checkpoint_folder", "jaxdec.checkpoints", "jaxdec.training", "jaxdec.catalogue", "jaxdec.testing",
        "jaxdec.planning",
    },
    "jaxdec.__main__": {"jaxdec.cli"},
    "pallas_kernels": {"pallas_kernels"},
}  # fmt: skip
"""By module or package: what it may import beside what is its own."""
CONTRACTS = {*DECODERS, "jaxdec.generation"}
FLAX = {"flax", "optax", "orbax"}


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


def layer(module: str) -> str | None:
    """The entry of `MAY_IMPORT` that a module falls under."""
    return next((name for name in MAY_IMPORT if inside(module, {name})), None)


def violations(module: str, names: set[str]) -> set[str]:
    """The imports that `module` must not have."""
    own = layer(module)
    if own is None:  # the package itself, which imports nothing until a name is used
        return names - {"jaxdec.public"} if module == "jaxdec" else {f"{module} has no layer"}
    allowed = MAY_IMPORT[own] - {"jaxdec"}
    exact = {"jaxdec"} & MAY_IMPORT[own] | (FAMILIES if own in FAMILIES else set())
    return {n for n in names if not inside(n, {*allowed, own}) and n not in exact}


def at_once(tree: ast.Module) -> set[str]:
    """Whatever a file imports when it is imported itself: nothing within functions, nothing for types alone."""
    names, nodes = set(), list(tree.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif not (
            isinstance(node, ast.FunctionDef | ast.Lambda)
            or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        ):
            nodes += ast.iter_child_nodes(node)
    return names


def needed(module: str, trees: dict[str, ast.Module], seen: dict[str, str]) -> dict[str, str]:
    """All that the import of a module brings, each with who imports it: packages bring their `__init__`."""
    for name in at_once(trees[module]):
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            found = ".".join(parts[:end])
            if found not in seen:
                seen[found] = module
                if found in trees:
                    needed(found, trees, seen)
    return seen


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module):
    names = imported(ast.parse(MODULES[module].read_text(), str(MODULES[module])))
    assert violations(module, names) == set()


def test_flax_is_not_needed_for_the_contracts():
    """Nor is what trains: nothing that decoders are made of imports it, not through others either."""
    trees = {module: ast.parse(path.read_text()) for module, path in MODULES.items()}
    brought = {}
    for module in MODULES:
        if inside(module, CONTRACTS):
            needed(module, trees, brought)
    assert {name: by for name, by in brought.items() if name in FLAX} == {}
    assert "flax" in needed("jaxdec.models.transformer", trees, {})


def test_types_and_functions_need_nothing_at_once():
    source = """
if TYPE_CHECKING:
    import flax
def f():
    import flax
class A:
    import optax
    def g(self):
        import flax
try:
    from orbax import checkpoint
except ImportError:
    pass
"""
    assert at_once(ast.parse(source)) == {"optax", "orbax.checkpoint"}


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
        ("jaxdec.search.beams", "from jaxdec.generation import generate"),
        ("jaxdec.generation.tuning", "from jaxdec import measuring"),
        ("jaxdec.models.grow", "import jaxdec.decoding"),
        ("jaxdec.parallel.placement", "from jaxdec import decoding"),
        ("jaxdec.plotting.curves", "from jaxdec import measuring"),
        ("jaxdec.measuring.timing", "from jaxdec.catalogue import METHODS"),
        ("jaxdec.testing.check", "from jaxdec.training.trainer import train"),
        ("jaxdec.catalogue.canvas", "import jaxdec.cli.display"),
        ("jaxdec.training.trainer", "from jaxdec.catalogue import METHODS"),
        ("jaxdec.checkpoints", "from jaxdec import training"),
        ("jaxdec.files", "from jaxdec import text"),
        ("jaxdec.decoding.loop", "import jaxdec"),
        ("jaxdec.public", "from jaxdec.testing import check"),
        ("jaxdec.planning.work", "from jaxdec.cli import display"),
        ("jaxdec.parallel.placement", "from jaxdec.planning import plan"),
        ("jaxdec", "import jaxdec.decoding"),
        ("jaxdec.something", "import os"),
    ],
)
def test_a_wrong_import_is_seen(module, source):
    assert violations(module, imported(ast.parse(source)))
