from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest

from lowering.cli import tune
from lowering.errors import InputError
from lowering.runtime import Device
from lowering.tuning.store import Winner, keep, path_of, read
from qga.app.main import main

WINNER = Winner("dot workgroup=8", 20.0, 10.0)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QGA_CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("size", "layout", "shapes"),
    [
        ("5x6x7", "nn", [(5, 6), (6, 7)]),
        ("5x6x7", "nt", [(5, 6), (7, 6)]),
        ("5x6x7", "tt", [(6, 5), (7, 6)]),
        ("3x5x6x7", "tn", [(3, 6, 5), (3, 6, 7)]),
    ],
)
def test_matmul_of_a_size_and_a_layout(size: str, layout: str, shapes: list[tuple[int, ...]]) -> None:
    function, given = tune.matmul_of(size, "f32", layout)
    assert [each.shape for each in given] == shapes
    arrays = [np.random.default_rng(0).standard_normal(each.shape, np.float32) for each in given]
    left, right = (a.swapaxes(-1, -2) if letter == "t" else a for a, letter in zip(arrays, layout, strict=True))
    assert np.allclose(function(*arrays), left @ right, atol=1e-5)


def test_matmul_of_narrow_numbers_may_have_a_wide_result() -> None:
    function, given = tune.matmul_of("5x6x7", "i8", result="i32")
    assert function(*(np.ones(each.shape, np.int8) for each in given)).dtype == np.int32


@pytest.mark.parametrize("size", ["", "5", "5x6", "5x6x", "0x5x6", "1x2x3x4x5", "axbxc"])
def test_other_sizes_are_refused(size: str) -> None:
    with pytest.raises(InputError, match="the size of a product must be three or four numbers"):
        _ = tune.matmul_of(size, "f32")


@pytest.mark.parametrize("name", ["f64", "c128", "i64"])
def test_numbers_of_64_bits_that_jax_would_halve_are_refused(name: str) -> None:
    for dtype, result in ((name, None), ("f32", name)):
        with pytest.raises(InputError, match=r"(?s)JAX must be allowed to use numbers of 64 bits.*JAX_ENABLE_X64=1"):
            _ = tune.matmul_of("5x6x7", dtype, result=result)


def test_numbers_of_64_bits_are_taken_where_jax_takes_them() -> None:
    with jax.enable_x64(True):
        _, given = tune.matmul_of("5x6x7", "f64")
    assert {each.dtype for each in given} == {np.dtype(np.float64)}


@pytest.mark.parametrize(
    "words",
    [
        ["matmul", "8x8x8", "--gradient"],
        ["matmul", "8x8x8", "--shapes", "f32[8]"],
        ["m:f", "8x8x8", "--shapes", "f32[8]"],
    ],
)
def test_words_that_do_not_belong_together_are_refused(
    words: list[str], device: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", *words]) == 2
    assert f"got:  {words[0]} 8x8x8 --" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["matmul"], ["jax.nn:softmax"]])
def test_missing_words_are_refused(words: list[str], device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", *words]) == 2
    assert "a function with its shapes, or matmul with sizes" in capsys.readouterr().err


def test_tune_prints_a_table(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "matmul", "24x24x24", "--budget", "0.2", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "matmul 24x24x24 f32 nn on" in out
    assert "dot f32[rows,depth] f32[depth,columns] -> f32 -> f32 batch<=1 rows<=24 columns<=24 depth<=24" in out


def test_tune_takes_a_function_and_its_gradient(
    tmp_path: Path, device: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tuned_program.py"
    file.write_text("def f(x, y):\n    return (x @ y) ** 2\n")
    words = ["tune", f"{file}:f", "--shapes", "f32[8,16],f32[16,8]", "--gradient", "--budget", "0.2", "--dry-run"]
    assert main(words) == 0
    assert capsys.readouterr().out.count("-> f32 -> f32") >= 2


def test_list_and_forget(folder: Path, device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    _ = keep(device.capabilities, folder, {"a class": WINNER})
    assert main(["tune", "--list"]) == 0
    out = capsys.readouterr().out
    assert "20.0 µs ->      10.0 µs  a class" in out
    assert str(path_of(device.capabilities, folder)) in out
    assert main(["tune", "--forget"]) == 0
    assert "nothing is kept" in capsys.readouterr().out
    assert read(device.capabilities, folder) == {}


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        _ = main(["tune", "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "No tuning is needed" in out
    assert "qga tune matmul 4096x4096x4096 --dtype f16" in out


def test_progress_is_quiet_at_first_and_then_speaks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(tune.time, "perf_counter", lambda: now)
    say = tune.progress()
    say("at once")
    now = 2.5
    say("later")
    say("right after")
    assert capsys.readouterr().err == "later\n"
