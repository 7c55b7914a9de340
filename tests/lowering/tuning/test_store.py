"""What a tuner found is kept for one device and driver; a file that cannot be trusted is ignored, and says so."""

from __future__ import annotations

import json
import os
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lowering.choices import NO_CHOICES, Choices
from lowering.errors import InputError
from lowering.tuning import store
from lowering.tuning.store import Winner, choices_of, forget, keep, path_of, read
from shaders.capabilities import Capabilities

FIXTURES = Path(__file__).parents[2] / "shaders" / "capabilities"
H100, LAVAPIPE = (Capabilities.from_text((FIXTURES / f"{name}.json").read_text()) for name in ("h100", "lavapipe22"))
WINNER, OTHER = Winner("dot workgroup=8", 20.0, 10.0), Winner("dot workgroup=16", 7.5, 2.5)


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {"QGA_CACHE_DIR": str(folder), **more}


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    path = keep(H100, tmp_path, {"a": WINNER, "b": OTHER})
    assert path == path_of(H100, tmp_path)
    assert read(H100, tmp_path) == {"a": WINNER, "b": OTHER}
    assert choices_of(H100, environment(tmp_path)) == Choices({"a": WINNER.schedule, "b": OTHER.schedule})


def test_nothing_is_there_at_first(tmp_path: Path) -> None:
    assert read(H100, tmp_path) == {}
    assert choices_of(H100, environment(tmp_path)) is NO_CHOICES


def test_results_merge_with_those_before(tmp_path: Path) -> None:
    _ = keep(H100, tmp_path, {"a": WINNER, "b": WINNER})
    _ = keep(H100, tmp_path, {"b": OTHER, "c": OTHER})
    assert read(H100, tmp_path) == {"a": WINNER, "b": OTHER, "c": OTHER}


def test_a_default_that_won_takes_its_entry_out(tmp_path: Path) -> None:
    _ = keep(H100, tmp_path, {"a": WINNER, "b": WINNER})
    _ = keep(H100, tmp_path, {"a": None})
    assert read(H100, tmp_path) == {"b": WINNER}


@pytest.mark.parametrize(
    "changes",
    [
        {"driver_version": "1.2.3"},
        {"device_id": 7},
        {"vendor_id": 7},
        {"driver_name": "nvk"},
        {"features_nv": frozenset()},
    ],
)
def test_results_of_another_device_or_driver_are_not_used(changes: dict[str, Any], tmp_path: Path) -> None:
    _ = keep(H100, tmp_path, {"a": WINNER})
    assert read(replace(H100, **changes), tmp_path) == {}
    assert read(LAVAPIPE, tmp_path) == {}


def test_a_file_put_in_another_devices_place_is_not_used(tmp_path: Path) -> None:
    path = keep(H100, tmp_path, {"a": WINNER})
    os.replace(path, path_of(LAVAPIPE, tmp_path))
    with pytest.warns(UserWarning, match="results of another device"):
        assert read(LAVAPIPE, tmp_path) == {}


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    def apply(text: str) -> str:
        content = json.loads(text)
        _ = change(content)
        return json.dumps(content)

    return apply


BROKEN: dict[str, Callable[[str], str]] = {
    "cut": lambda text: text[:-9],
    "empty": lambda text: "",
    "a list": lambda text: "[]",
    "another format": changed(lambda content: content.update(format=2)),
    "no format": changed(lambda content: content.pop("format")),
    "a schedule that is no text": changed(lambda content: content["winners"]["a"].update(schedule=["dot"])),
    "a row with more": changed(lambda content: content["winners"]["a"].update(more=1)),
    "a time that is no number": changed(lambda content: content["winners"]["a"].update(default_us="soon")),
    "a schedule without bytes": lambda text: text.replace(WINNER.schedule, r"\ud800"),
    "lists in lists": lambda text: "[" * 100_000,
    "winners in a list": changed(lambda content: content.update(winners=[])),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_cannot_be_understood_is_ignored_with_a_warning(name: str, tmp_path: Path) -> None:
    path = keep(H100, tmp_path, {"a": WINNER})
    path.write_text(BROKEN[name](path.read_text()))
    with pytest.warns(UserWarning, match=r"(?s)cannot be read are not used.*got:.*fix:"):
        assert choices_of(H100, environment(tmp_path)) is NO_CHOICES


def test_a_sound_file_gives_no_warning(tmp_path: Path) -> None:
    _ = keep(H100, tmp_path, {"a": WINNER})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choices_of(H100, environment(tmp_path)) is not NO_CHOICES


def test_a_broken_file_is_written_anew(tmp_path: Path) -> None:
    path = keep(H100, tmp_path, {"a": WINNER})
    path.write_text("?")
    with pytest.warns(UserWarning, match="not used"):
        _ = keep(H100, tmp_path, {"b": OTHER})
    assert read(H100, tmp_path) == {"b": OTHER}


def test_the_file_is_for_people(tmp_path: Path) -> None:
    content = json.loads(keep(H100, tmp_path, {"a": WINNER}).read_text())
    assert content["device"]["device_name"] == H100.device_name
    assert content["winners"]["a"] == {"schedule": "dot workgroup=8", "default_us": 20.0, "tuned_us": 10.0}
    assert [file.name for file in (tmp_path / "tuning").iterdir()] == [path_of(H100, tmp_path).name]


def test_an_environment_variable_turns_it_off(tmp_path: Path) -> None:
    _ = keep(H100, tmp_path, {"a": WINNER})
    assert choices_of(H100, environment(tmp_path, QGA_TUNING="0")) is NO_CHOICES
    assert choices_of(H100, environment(tmp_path, QGA_TUNING="1")) is not NO_CHOICES


def test_another_value_of_the_variable_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="QGA_TUNING must be one of the known settings"):
        _ = choices_of(H100, environment(tmp_path, QGA_TUNING="never"))


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(InputError, match=r"(?s)results are kept in the folder of the caches.*QGA_CACHE_DIR"):
        _ = keep(H100, blocked, {"a": WINNER})


def test_what_is_forgotten_is_gone(tmp_path: Path) -> None:
    path = keep(H100, tmp_path, {"a": WINNER})
    _ = keep(LAVAPIPE, tmp_path, {"a": WINNER})
    forget(H100, tmp_path)
    assert not path.exists()
    assert read(LAVAPIPE, tmp_path) == {"a": WINNER}
    forget(H100, tmp_path)


def test_what_cannot_be_forgotten_is_an_error(tmp_path: Path) -> None:
    path_of(H100, tmp_path).mkdir(parents=True)
    with pytest.raises(InputError, match=r"(?s)results are kept in the folder of the caches.*QGA_CACHE_DIR"):
        forget(H100, tmp_path)


def test_results_that_are_kept_at_the_same_time_are_all_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began, replace_file = threading.Barrier(2), store.os.replace

    def late(*names: Any) -> None:
        # Long enough for who does not wait to have read what was there before.
        time.sleep(0.2)
        replace_file(*names)

    def add(name: str) -> None:
        _ = began.wait()
        _ = keep(H100, tmp_path, {name: WINNER})

    monkeypatch.setattr(store.os, "replace", late)
    threads = [threading.Thread(target=add, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read(H100, tmp_path) == {"a": WINNER, "b": WINNER}
