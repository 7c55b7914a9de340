from __future__ import annotations

import json
from pathlib import Path

import pytest

from shaders.capabilities import Capabilities
from shaders.errors import ShaderError

FILES = sorted((Path(__file__).parent / "capabilities").glob("*.json"))


def read(name):
    return Capabilities.from_text((Path(__file__).parent / "capabilities" / f"{name}.json").read_text())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_file_reads_back_as_it_was_written(file):
    assert Capabilities.from_text(file.read_text()).to_text() == file.read_text()


def test_there_is_a_file_for_each_driver():
    assert [file.stem for file in FILES] == ["h100", "lavapipe22", "lavapipe26"]


@pytest.mark.parametrize(("name", "is_cpu"), [("h100", False), ("lavapipe22", True), ("lavapipe26", True)])
def test_software_drivers_are_known_as_such(name, is_cpu):
    assert read(name).is_cpu == is_cpu


def test_matrices_differ_by_driver():
    assert read("lavapipe22").matrices == ()
    assert {(row.m, row.n, row.k) for row in read("lavapipe26").matrices} == {(8, 8, 8)}
    assert any(row.a == "bf16" and row.result == "f32" for row in read("h100").matrices)


def test_workgroup_matrices_say_how_many_invocations_they_need():
    assert {row.invocations for row in read("h100").matrices_nv if row.scope == "workgroup"} == {32, 64, 128, 256}


def test_capabilities_are_hashable():
    assert len({read("h100"), read("h100"), read("lavapipe22")}) == 2


@pytest.mark.parametrize("change", [{"warp": 32}, {"has_f64": None}])
def test_file_with_other_fields_is_refused(change):
    plain = json.loads(FILES[0].read_text())
    plain = {name: value for name, value in (plain | change).items() if value is not None or name not in change}
    with pytest.raises(ShaderError, match="exactly the fields of the record"):
        Capabilities.from_text(json.dumps(plain))
