"""The text a run learns from: find it, read it, number its characters, draw batches."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import OptionError, refuse

_SUFFIXES = frozenset({".md", ".txt", ".rst", ".tex", ".py", ".html", ".csv", ".json", ".toml"})
_LARGEST_TEXT_BYTES = 16 * 2**20
# Rarer characters share one number, so that a text with many scripts keeps a small output layer.
_LARGEST_VOCABULARY = 128
# A page by which the documentation of this project is recognised.
_OWN_PAGE = "theory/softmax_state.md"
_OTHER = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Text:
    """A text as numbers.

    Attributes:
        name: where it came from, for people.
        vocabulary: the characters, in the order of their numbers.
        numbers: one int32 for each character of the text.
        digest: SHA-256 of the characters, to recognise the text when resuming.
    """

    name: str
    vocabulary: str
    numbers: np.ndarray
    digest: str

    def decode(self, numbers: Iterable[int]) -> str:
        """Turn numbers back into characters."""
        return "".join(self.vocabulary[number] for number in numbers)


def load_text(source: Path | None, context: int) -> Text:
    """Read a file, every text file of a folder, or the default text.

    Args:
        source: file or folder; None for the project's documentation.
        context: characters of one example; the text must hold at least two examples.

    Raises:
        OptionError: nothing there, not text, too short or too large.
    """
    files = _find(source) if source else _default_files()
    characters = "\n\n".join(_read(file) for file in files)
    name = str(source) if source else "the documentation of this project"
    if len(characters) < 2 * (context + 1):
        refuse(
            OptionError,
            "run: the text is too short to learn from.",
            got=f"{len(characters)} characters in {name}",
            want=f"at least {2 * (context + 1)}",
            fix="pass a longer file, or a folder of text files.",
        )
    return number_text(name, characters)


def number_text(name: str, characters: str) -> Text:
    """Give each character a number, in the order of the alphabet."""
    counts = Counter(characters)
    kept = {character for character, _ in counts.most_common(_LARGEST_VOCABULARY - 1)}
    vocabulary = "".join(sorted(kept if len(kept) == len(counts) else kept | {_OTHER}))
    number_of = {character: number for number, character in enumerate(vocabulary)}
    other = number_of.get(_OTHER, 0)
    numbers = np.fromiter((number_of.get(character, other) for character in characters), np.int32, len(characters))
    return Text(name, vocabulary, numbers, hashlib.sha256(characters.encode()).hexdigest())


def draw_batch(text: Text, *, seed: int, step: int, batch: int, context: int) -> np.ndarray:
    """Draw the examples of one step: int32[batch, context + 1].

    A pure function of seed and step, so that both backends see the same batches and a resumed run goes on with the
    ones it would have seen.
    """
    starts = np.random.default_rng((seed, step)).integers(0, len(text.numbers) - context, batch)
    return text.numbers[starts[:, None] + np.arange(context + 1)]


def _default_files() -> list[Path]:
    """Find the documentation: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).parents[2]
    checkout, bundled = package.parent / "docs", package / "app" / "text"
    # Beside an installed package stands site-packages, where a folder `docs` may be anybody's.
    files = _text_files(checkout if (checkout / _OWN_PAGE).is_file() else bundled)
    if not files:
        refuse(
            OptionError,
            "run: there is no default text in this installation.",
            got="no docs folder beside or inside the package",
            want="a text to learn from",
            fix="pass a text file or folder: qga run FILE.",
        )
    return files


def _find(source: Path) -> list[Path]:
    files = _text_files(source) if source.is_dir() else [source] if source.is_file() else []
    size = sum(file.stat().st_size for file in files)
    if not files or size > _LARGEST_TEXT_BYTES:
        refuse(
            OptionError,
            "run: the source must be a text file or a folder with text files.",
            got=f"{source}: {len(files)} text files, {size} bytes",
            want=f"1 to {_LARGEST_TEXT_BYTES} bytes of text",
            fix=f"pass a readable file, or a folder with files that end in {', '.join(sorted(_SUFFIXES))}.",
        )
    return files


def _text_files(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.suffix in _SUFFIXES and path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        refuse(
            OptionError,
            "run: a file could not be read as text.",
            got=f"{file}: {error}",
            want="readable UTF-8 text",
            fix="convert the file to UTF-8, or leave it out.",
        )
