"""Backends have the four protocols: their methods at run time, and their signatures."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from qga import backends

PROTOCOLS = [
    backends.AttentionBackend,
    backends.TensorMemoryManager,
    backends.TilingStrategy,
    backends.QuantumGeometricCore,
]


def methods_of(protocol: type) -> list[str]:
    return sorted(name for name, value in vars(protocol).items() if inspect.isfunction(value) and name[0] != "_")


def differences(protocol: type, implementation: type) -> list[str]:
    """List the methods whose parameters or result are annotated otherwise than the protocol says."""
    return [
        name
        for name in methods_of(protocol)
        if str(inspect.signature(getattr(protocol, name))) != str(inspect.signature(getattr(implementation, name)))
    ]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda each: each.__name__)
def test_backend_is_seen_to_have_it(protocol: Any, backend: backends.Backend) -> None:
    assert isinstance(backend, protocol)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda each: each.__name__)
def test_object_without_one_of_its_methods_is_not_it(protocol: Any) -> None:
    names = methods_of(protocol)
    assert names
    for missing in names:
        methods = {name: lambda self: None for name in names if name != missing}
        assert not isinstance(type("Partial", (), methods)(), protocol)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("implementation", [backends.CPUBackend, backends.VulkanBackend])
def test_signatures_are_those_of_the_protocol(protocol: Any, implementation: Any) -> None:
    assert not differences(protocol, implementation)


def test_other_signature_is_found() -> None:
    class Other(backends.CPUBackend):
        def free(self, array: int) -> None: ...

    assert differences(backends.TensorMemoryManager, Other) == ["free"]


def test_backends_differ_in_the_platform_alone() -> None:
    both = backends.CPUBackend, backends.VulkanBackend
    written = [{name for name in vars(each) if not name.startswith("__")} for each in both]
    assert written == [{"platform"}, {"platform"}]
