"""The table of slots, called as C calls it: sizes are respected, null is accepted, what is missing says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

PROGRAM = """
import ctypes
from lowering.pjrt import _native, spec, table
from lowering.pjrt.client import Client
client = Client("vulkan", numpy_engine.open_engine())
capsule = table.build(lambda: client)
get = ctypes.pythonapi.PyCapsule_GetPointer
get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
address = get(capsule, b"pjrt_c_api")
size, _, version_size, _ = (ctypes.c_size_t * 4).from_address(address)
facts["size"], facts["version size"] = size, version_size
facts["version"] = list((ctypes.c_int * 2).from_address(address + 32))
functions = (ctypes.c_void_p * len(spec.SLOTS)).from_address(address + 40)
facts["no empty slot"] = all(functions)
def call(slot, words, nbytes=None):
    memory = ctypes.create_string_buffer(b"\\xAA" * 512, 512)
    view = (ctypes.c_uint64 * 64).from_buffer(memory)
    view[0], view[1] = nbytes or 512, 0
    for place, word in enumerate(words):
        view[2 + place] = word
    function = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(functions[spec.SLOTS.index(slot)])
    return function(ctypes.addressof(memory)), view
PATTERN = 0xAAAAAAAAAAAAAAAA
def error_of(error):
    code = call("Error_GetCode", [error])[1][3] & 0xFFFFFFFF
    _, view = call("Error_Message", [error])
    text = ctypes.string_at(view[3], view[4]).decode()
    facts.setdefault("payload answers", call("Error_ForEachPayload", [error, 0, 0])[0])
    call("Error_Destroy", [error])
    return [code, text]
facts["missing"] = error_of(call("Client_DmaMap", [client.handle, 0, 0])[0])
error, view = call("Client_PlatformName", [client.handle])
facts["name"] = [error, ctypes.string_at(view[3], view[4]).decode(), view[5] == PATTERN]
error, view = call("Client_PlatformName", [client.handle], nbytes=32)
facts["older caller"] = [error, view[3] != PATTERN, view[4] == PATTERN]
error, view = call("Device_MemoryStats", [client.device_handle], nbytes=32)
facts["older statistics"] = [error, view[3], all(word == PATTERN for word in view[4:])]
error, view = call("Buffer_ToHostBuffer", [0, 0, 0])
facts["no handle"] = error_of(error)
facts["lookup"] = error_of(call("Client_LookupDevice", [client.handle, 3])[0])
for slot in ("Buffer_Destroy", "Event_Destroy", "Error_Destroy", "LoadedExecutable_Destroy", "Executable_Destroy"):
    facts["null " + slot] = call(slot, [0])[0]
event = _native.new_event()
seen = []
callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(lambda error, user: seen.append((error, user)))
pointer = ctypes.cast(callback, ctypes.c_void_p).value
facts["not ready"] = call("Event_IsReady", [event])[1][3] & 0xFF
call("Event_OnReady", [event, pointer, 7])
threading.Timer(0.1, _native.complete_event, (event, 13, b"broken")).start()
facts["awaited"] = error_of(call("Event_Await", [event])[0])
facts["ready"] = call("Event_IsReady", [event])[1][3] & 0xFF
facts["error of event"] = error_of(call("Event_Error", [event])[0])
while not seen:
    time.sleep(0.01)
facts["called back"] = [error_of(seen[0][0]), seen[0][1]]
call("Event_OnReady", [event, pointer, 8])
facts["called back late"] = [error_of(seen[1][0]), seen[1][1]]
call("Event_Destroy", [event])
facts["always ready"] = [call("Event_Await", [_native.READY])[0], call("Event_IsReady", [_native.READY])[1][3] & 0xFF]
facts["told of processes"] = call("Client_UpdateGlobalProcessInfo", [client.handle, 0, 2])[0]
_native.leave(1000)
told = []
late = threading.Thread(target=lambda: told.append(call("Client_UpdateGlobalProcessInfo", [client.handle, 0, 2])[0]))
late.start()
late.join()
facts["told at exit"] = told[0]
before = _native.live()
handle = _native.new_handle(object(), b"")
call("Buffer_Destroy", [handle])
facts["handles alive"] = [_native.live() - before, (_native.collect(), _native.live() - before)[1]]
"""


@pytest.fixture(scope="module")
def facts(run_facts: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return run_facts(PROGRAM)


def test_table_announces_its_size_and_version(facts: dict[str, Any]) -> None:
    assert facts["size"] == 40 + 8 * 138
    assert facts["version size"] == 24
    assert facts["version"] == [0, 114]


def test_table_has_no_empty_slot(facts: dict[str, Any]) -> None:
    assert facts["no empty slot"] is True


def test_missing_slot_names_itself(facts: dict[str, Any]) -> None:
    assert facts["missing"] == [12, "PJRT_Client_DmaMap is not implemented by the platform vulkan"]


def test_errors_have_no_payload(facts: dict[str, Any]) -> None:
    assert facts["payload answers"] is None


def test_answers_reach_their_fields(facts: dict[str, Any]) -> None:
    assert facts["name"] == [None, "vulkan", True]


def test_fields_beyond_the_callers_size_stay_untouched(facts: dict[str, Any]) -> None:
    assert facts["older caller"] == [None, True, True]
    assert facts["older statistics"] == [None, 0, True]


def test_handler_that_fails_answers_an_error(facts: dict[str, Any]) -> None:
    code, text = facts["no handle"]
    assert code == 13
    assert "AttributeError" in text


def test_unknown_device_is_refused(facts: dict[str, Any]) -> None:
    code, text = facts["lookup"]
    assert code == 3
    assert text.splitlines()[1:3] == ["  got:  device 3", "  want: device 0, the only one of this process"]


@pytest.mark.parametrize("kind", ["Buffer", "Event", "Error", "LoadedExecutable", "Executable"])
def test_destroying_null_does_nothing(facts: dict[str, Any], kind: str) -> None:
    assert facts[f"null {kind}_Destroy"] is None


def test_event_completes_once_for_everyone(facts: dict[str, Any]) -> None:
    broken = [13, "broken"]
    assert (facts["not ready"], facts["ready"]) == (0, 1)
    assert facts["awaited"] == facts["error of event"] == broken
    assert facts["called back"] == [broken, 7]
    assert facts["called back late"] == [broken, 8]


def test_news_of_processes_are_heard_until_the_end(facts: dict[str, Any]) -> None:
    assert facts["told of processes"] is None
    assert facts["told at exit"] is None


def test_ready_event_needs_no_waiting(facts: dict[str, Any]) -> None:
    assert facts["always ready"] == [None, 1]


def test_destroyed_handle_is_dropped_by_the_next_collection(facts: dict[str, Any]) -> None:
    assert facts["handles alive"] == [1, 0]
