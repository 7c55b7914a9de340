"""The layout table: offsets as C computes them, and every slot we answer is described."""

from __future__ import annotations

import ctypes

import pytest

from lowering.pjrt import spec

TYPES = {
    "p": ctypes.c_void_p,
    "h": ctypes.c_void_p,
    "z": ctypes.c_size_t,
    "u": ctypes.c_uint64,
    "l": ctypes.c_int64,
    "i": ctypes.c_int,
    "b": ctypes.c_bool,
}
TEXTS = spec.ARGUMENTS | spec.STRUCTURES


@pytest.mark.parametrize("name", TEXTS)
def test_fields_lie_where_c_puts_them(name: str) -> None:
    ours = spec.fields(TEXTS[name])
    members = [("struct_size", ctypes.c_size_t), ("extension_start", ctypes.c_void_p)]
    members += [(field.name, TYPES[field.code]) for field in ours]
    structure = type("Structure", (ctypes.Structure,), {"_fields_": members})
    assert [field.offset for field in ours] == [getattr(structure, field.name).offset for field in ours]


def test_fields_after_a_bool_are_aligned() -> None:
    flag, number = spec.fields("flag:b number:l")
    assert (flag.offset, number.offset) == (16, 24)


def test_slots_are_unique() -> None:
    assert len(set(spec.SLOTS)) == len(spec.SLOTS) == 138


def test_arguments_belong_to_slots() -> None:
    assert set(spec.ARGUMENTS) <= set(spec.SLOTS)


def test_answers_are_marked() -> None:
    taken, answered = spec.fields("id:i >device:p")
    assert (taken.answered, answered.answered) == (False, True)
