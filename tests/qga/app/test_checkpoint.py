"""Checkpoints: whole or not at all, and only for the run they belong to."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from qga import OptionError
from qga.app.run.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, write_atomically

CONFIG: dict[str, object] = {"seed": 1, "attention": "dot"}
STATE = {"weights": jnp.arange(6.0).reshape(2, 3), "count": jnp.array(4, jnp.int32), "list": [jnp.ones(2)]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "deep" / "c.safetensors"
    save_checkpoint(path, Checkpoint(CONFIG, STATE, np.array([2.0, 1.0]), np.array([0.1, 0.2])))
    return path


def test_load_returns_what_was_saved(path: Path) -> None:
    loaded = load_checkpoint(path, CONFIG, STATE)
    assert loaded.step == 2
    assert np.array_equal(loaded.state["weights"], STATE["weights"])
    assert loaded.state["count"] == 4
    assert loaded.state["count"].shape == ()
    assert np.array_equal(loaded.losses, [2, 1])


def test_other_settings_are_refused_by_name(path: Path) -> None:
    with pytest.raises(OptionError) as error:
        load_checkpoint(path, {**CONFIG, "attention": "fidelity"}, STATE)
    assert str(error.value).splitlines()[1:] == [
        "  got:  attention=fidelity",
        "  want: attention=dot",
        "  fix:  repeat the options and the text of that run, or leave out --resume to start anew.",
    ]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x08\0\0\0\0\0\0\0{}      "])
def test_damaged_file_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(OptionError, match="the checkpoint cannot be read"):
        load_checkpoint(path, CONFIG, STATE)


def test_truncated_file_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(OptionError, match="the checkpoint cannot be read"):
        load_checkpoint(path, CONFIG, STATE)


def test_missing_tensor_is_named(path: Path) -> None:
    with pytest.raises(OptionError, match=r"no tensor state\['more'\]"):
        load_checkpoint(path, CONFIG, {**STATE, "more": jnp.ones(1)})


def test_failed_write_leaves_the_old_file_and_no_litter(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
