"""Each private part of JAX that the package needs is there, and its absence has a name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lowering import compat
from lowering.errors import DeviceError

FLAGS = "HAS_PLATFORM_TABLE HAS_DONATION_LIST HAS_LOWERING_TABLES HAS_PLUGIN_LOADER HAS_CLIENT_MAKER HAS_PALLAS".split()


@pytest.mark.parametrize("flag", FLAGS)
def test_private_part_is_there(flag: str) -> None:
    assert getattr(compat, flag) is True


def test_absent_loader_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "HAS_PLUGIN_LOADER", False)
    with pytest.raises(DeviceError, match=r"without jax\._src xla_client\.load_pjrt_plugin_with_c_api"):
        compat.load_plugin("nobody", object())


def test_absent_maker_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "HAS_CLIENT_MAKER", False)
    with pytest.raises(DeviceError, match=r"without jax\._src xla_bridge\.make_pjrt_c_api_client"):
        compat.make_client("nobody")


def test_absent_donation_list_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "HAS_DONATION_LIST", False)
    assert compat.allow_donation("nobody") is False


def test_donation_is_allowed_once() -> None:
    assert compat.allow_donation("somebody")
    assert compat.allow_donation("somebody")
    names = compat._mlir._platforms_with_donation
    assert names.count("somebody") == 1
    names.remove("somebody")


def test_absent_lowering_tables_leave_refusals_to_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "HAS_LOWERING_TABLES", False)
    assert compat.leave_refusals_to_the_importer("nobody") == 0


def test_absent_pallas_leaves_its_calls_to_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "HAS_PALLAS", False)
    assert compat.register_pallas("nobody", lambda *_: ()) is False
    assert "nobody" not in compat._mlir._platform_specific_lowerings


def test_pallas_is_written_as_the_rule_does(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, object, str]] = []

    def note(primitive: Any, rule: object, platform: str) -> None:
        written.append((primitive.name, rule, platform))

    monkeypatch.setattr(compat._mlir, "register_lowering", note)
    assert compat.register_pallas("somebody", note)
    assert written == [("pallas_call", note, "somebody")]


def test_registered_platform_is_not_replaced() -> None:
    assert compat.register_platform("cpu", lambda: None, 0) is False


@pytest.mark.parametrize(("setting", "names"), [("vulkan, cpu", ("vulkan", "cpu")), ("", ()), (None, ())])
def test_requested_platforms_follow_the_configuration(
    monkeypatch: pytest.MonkeyPatch, setting: str | None, names: tuple[str, ...]
) -> None:
    monkeypatch.setattr(compat, "jax", SimpleNamespace(config=SimpleNamespace(jax_platforms=setting)))
    assert compat.requested_platforms() == names
