"""What a package exports is written down once, sorted, and documented."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from types import FunctionType

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(
    ".".join(file.parent.relative_to(ROOT).parts)
    for room in ("qga", "lowering", "shaders")
    for file in (ROOT / room).rglob("__init__.py")
)


def exported(source: str) -> list[str] | None:
    """Return the names in `__all__`, or None where a package declares none."""
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return list(ast.literal_eval(node.value))  # pyright: ignore[reportAttributeAccessIssue] - an assignment has one
    return None


def reexported(source: str) -> list[str]:
    """Return the names a package takes from its own modules."""
    nodes = [node for node in ast.parse(source).body if isinstance(node, ast.ImportFrom) and node.level]
    return [alias.asname or alias.name for node in nodes for alias in node.names]


def source_of(package: str) -> str:
    return (ROOT.joinpath(*package.split(".")) / "__init__.py").read_text()


@pytest.mark.parametrize("package", PACKAGES)
def test_package_says_what_it_holds(package: str) -> None:
    assert ast.get_docstring(ast.parse(source_of(package))), f"{package}/__init__.py needs a docstring of one sentence"


@pytest.mark.parametrize("package", PACKAGES)
def test_exports_are_declared_once(package: str) -> None:
    source = source_of(package)
    names = exported(source)
    public = [name for name in reexported(source) if not name.startswith("_")]
    assert names is not None or not public, f"{package} re-exports {public} without __all__"
    # The order itself (constants, classes, functions) is checked by the linter's rule RUF022.
    assert len(set(names or ())) == len(names or ()), f"{package}: __all__ names something twice"


@pytest.mark.parametrize("package", PACKAGES)
def test_exports_exist_and_are_documented(package: str) -> None:
    names = exported(source_of(package)) or []
    module = importlib.import_module(package) if names else None
    for name in names:
        assert hasattr(module, name), f"{package}.__all__ names {name}, which is not there"
        value = getattr(module, name)
        if isinstance(value, type | FunctionType):
            assert value.__doc__, f"{package}.{name} has no docstring"


def test_exported_reads_a_declaration() -> None:
    assert exported('__all__ = ["b", "a"]') == ["b", "a"]
    assert exported("from .x import y") is None
