"""Which room may import which; docs/style.md §2 in code. A wrong import is reported with its file, line and rule."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("qga", "lowering", "shaders")


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement, resolved to the absolute name of the module it reaches."""

    module: str
    target: str
    line: int
    level: int = 0


# What a room may import besides the standard library and itself. The first match from the top decides, so that a folder
# may say more, or less, than its room.
ALLOWED: dict[str, frozenset[str]] = {
    "qga.app": frozenset({"jax", "jaxtyping", "lowering", "numpy", "optax", "safetensors"}),
    # The library whose solvers JAX calls, so that its threads can be counted.
    "qga.analysis.threads": frozenset({"scipy"}),
    # Pictures of a report; an extra, imported when one is drawn.
    "qga.analysis": frozenset({"jax", "jaxtyping", "matplotlib", "numpy"}),
    # Yen's algorithm and linear programmes on the host.
    "qga.routing.paths": frozenset({"jax", "jaxtyping", "numpy", "scipy"}),
    "qga.flow.curvature": frozenset({"jax", "jaxtyping", "numpy", "scipy"}),
    # Primes and factors.
    "qga.arithmetic.integers": frozenset({"flint"}),
    # numpy holds what is known while JAX traces: counts, permutations, tables of constants.
    "qga": frozenset({"jax", "jaxtyping", "numpy"}),
    "shaders": frozenset({"numpy"}),
    "lowering": frozenset({"cffi", "jax", "jaxlib", "ml_dtypes", "numpy", "shaders", "vulkan"}),
}

# (importing module, imported module, the only modules that may, why). A name covers all below it.
RULES: tuple[tuple[str, str, frozenset[str], str], ...] = (
    ("lowering", "jax._src", frozenset({"lowering.compat"}), "private JAX is read in one file"),
    ("lowering", "vulkan", frozenset({"lowering.runtime.loader"}), "the binding is replaced by editing one file"),
    ("lowering", "cffi", frozenset({"lowering.runtime.loader"}), "foreign definitions live beside the binding"),
    ("lowering.stablehlo", "lowering.codegen", frozenset(), "the importer knows no code generator"),
    ("lowering.stablehlo", "lowering.runtime", frozenset(), "the importer knows no device"),
    ("lowering.codegen", "lowering.stablehlo", frozenset(), "code is generated from graphs, whoever made them"),
    ("lowering.codegen", "lowering.runtime", frozenset(), "a program exists without a device"),
    ("lowering.codegen", "jax", frozenset(), "a graph holds all that code generation needs"),
    ("lowering.runtime", "lowering.stablehlo", frozenset(), "a saved program runs without the compiler"),
    ("lowering.runtime", "lowering.codegen", frozenset(), "a saved program runs without the compiler"),
    ("lowering.runtime", "lowering.passes", frozenset(), "a saved program runs without the compiler"),
    ("lowering.runtime", "jax", frozenset(), "a saved program runs without JAX"),
    ("lowering.passes", "lowering.stablehlo", frozenset(), "passes see graphs only"),
    ("lowering.passes", "lowering.codegen", frozenset(), "passes see graphs only"),
    ("lowering.passes", "lowering.runtime", frozenset(), "passes see graphs only"),
    ("lowering.passes", "jax", frozenset(), "passes see graphs only"),
    ("qga", "lowering", frozenset({"qga.app"}), "pure functions know arrays, not where they run"),
)  # fmt: skip


def imports_of(module: str, source: str, *, is_package: bool = False) -> Iterator[Import]:
    """Yield every import of a module, those inside functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(module, alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node, is_package)
            yield Import(module, base, node.lineno, node.level)
            # `from package import name` may reach a submodule.
            yield from (Import(module, f"{base}.{alias.name}", node.lineno, node.level) for alias in node.names)


def complaints(entries: Iterator[Import]) -> list[str]:
    """Return one line for each import that breaks a rule."""
    found: dict[tuple[str, int, str], str] = {}
    for entry in entries:
        why = _forbidden(entry)
        if why:
            found.setdefault(
                (entry.module, entry.line, why), f"{entry.module}:{entry.line} imports {entry.target}: {why}"
            )
    return list(found.values())


def _absolute(module: str, node: ast.ImportFrom, is_package: bool) -> str:
    if node.level == 0:
        return node.module or ""
    parts = module.split(".")
    kept = parts[: len(parts) - node.level + is_package]
    return ".".join([*kept, *([node.module] if node.module else [])])


def _forbidden(entry: Import) -> str | None:
    own, top = entry.module.split(".")[0], entry.target.split(".")[0]
    if top == own:
        if entry.level == 0:
            return "inside a room imports are relative"
    elif top not in sys.stdlib_module_names and top not in _allowed(entry.module):
        return f"{own} may import only {', '.join(sorted(_allowed(entry.module)))}"
    for importer, imported, exempt, why in RULES:
        applies = _below(entry.module, importer) and _below(entry.target, imported)
        if applies and not any(_below(entry.module, name) for name in exempt):
            return why
    return None


def _allowed(module: str) -> frozenset[str]:
    return next((names for room, names in ALLOWED.items() if _below(module, room)), frozenset())


def _below(name: str, top: str) -> bool:
    return name == top or name.startswith(top + ".")


def _modules() -> Iterator[tuple[str, Path]]:
    for room in ROOMS:
        for file in sorted((ROOT / room).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), file


def test_every_import_keeps_the_rules() -> None:
    broken = [
        line
        for module, file in _modules()
        for line in complaints(imports_of(module, file.read_text(), is_package=file.name == "__init__.py"))
    ]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("qga.flow.heat", "import optax"),
        ("qga.flow.heat", "import lowering"),
        ("qga.flow.heat", "from qga.errors import message"),
        ("shaders.spirv.module", "import jax"),
        ("shaders.spirv.module", "from lowering.graph import Graph"),
        ("lowering.api", "import jax._src.xla_bridge"),
        ("lowering.api", "from jax._src import xla_bridge"),
        ("lowering.runtime.device", "import vulkan"),
        ("lowering.runtime.device", "from ..codegen import emit"),
        ("lowering.runtime.device", "from .. import codegen"),
        ("lowering.codegen.emit", "def f():\n    from ..runtime import device"),
        ("lowering.passes.fuse", "from lowering.graph import Graph"),
        ("lowering.passes.fuse", "import jax.numpy"),
        ("lowering.graph", "import qga"),
        ("lowering.graph", "import torch"),
    ],
)
def test_a_wrong_import_is_reported(module: str, source: str) -> None:
    assert complaints(imports_of(module, source))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("qga.flow.heat", "import jax\nfrom jaxtyping import Array\nfrom ..errors import message"),
        ("qga.app.train", "import optax\nimport lowering"),
        ("lowering.compat", "from jax._src import xla_bridge"),
        ("lowering.runtime.loader", "import vulkan"),
        ("lowering.codegen.emit", "from shaders.spirv import Builder\nfrom ..graph import Graph"),
        ("lowering.pjrt.plugin", "from ..runtime import Device\nfrom .. import api"),
        ("shaders.kernel", "import dataclasses\nimport numpy"),
    ],
)
def test_a_right_import_is_accepted(module: str, source: str) -> None:
    assert not complaints(imports_of(module, source))
