"""Texts become numbers and batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qga import OptionError
from qga.app.run.text import Text, draw_batch, load_text, number_text


def test_numbers_decode_to_the_text() -> None:
    text = number_text("x", "banana")
    assert text.vocabulary == "abn"
    assert text.decode(text.numbers) == "banana"


def test_rare_characters_share_one_number() -> None:
    many = "".join(chr(0x4E00 + i) for i in range(300)) + "common " * 9
    text = number_text("x", many)
    assert len(text.vocabulary) == 128
    assert text.decode(text.numbers).endswith("common ")
    assert "\N{REPLACEMENT CHARACTER}" in text.decode(text.numbers)


def test_batches_follow_from_seed_and_step(text: Text) -> None:
    draw = {
        (seed, step): draw_batch(text, seed=seed, step=step, batch=5, context=8) for seed in (0, 1) for step in (0, 1)
    }
    assert np.array_equal(draw[0, 0], draw_batch(text, seed=0, step=0, batch=5, context=8))
    assert not np.array_equal(draw[0, 0], draw[0, 1])
    assert not np.array_equal(draw[0, 0], draw[1, 0])
    assert draw[0, 0].shape == (5, 9)
    assert draw[0, 0].dtype == np.int32


def test_batches_are_pieces_of_the_text(text: Text) -> None:
    whole = text.decode(text.numbers)
    assert all(text.decode(row) in whole for row in draw_batch(text, seed=1, step=2, batch=9, context=8))


def test_the_last_character_can_be_drawn() -> None:
    text = number_text("x", "abcdefgh")
    last = [draw_batch(text, seed=0, step=step, batch=4, context=6)[:, -1].max() for step in range(9)]
    assert max(last) == 7


def test_folder_is_read_in_order_and_hidden_files_are_not(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("second " * 20)
    (tmp_path / "a.txt").write_text("first " * 20)
    (tmp_path / ".hidden.md").write_text("never")
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    text = load_text(tmp_path, 8)
    assert text.decode(text.numbers).startswith("first")
    assert "never" not in text.decode(text.numbers)


def test_default_text_is_the_documentation() -> None:
    text = load_text(None, 64)
    assert "softmax" in text.decode(text.numbers)


def test_missing_file_is_refused_in_four_lines(tmp_path: Path) -> None:
    with pytest.raises(OptionError) as error:
        load_text(tmp_path / "nothing.txt", 8)
    lines = str(error.value).splitlines()
    assert lines[0] == "run: the source must be a text file or a folder with text files."
    assert lines[1].endswith("nothing.txt: 0 text files, 0 bytes")
    assert [line[:7] for line in lines[1:]] == ["  got: ", "  want:", "  fix: "]


def test_short_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "short.txt"
    file.write_text("short")
    with pytest.raises(OptionError, match="too short to learn from"):
        load_text(file, 64)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "noise.txt"
    file.write_bytes(b"\xff\xfe\x00" * 100)
    with pytest.raises(OptionError, match="could not be read as text"):
        load_text(file, 8)
