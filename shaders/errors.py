"""The one error of this room and the shape of its text."""

from __future__ import annotations


class ShaderError(ValueError):
    """Say in four lines which rule a kernel breaks: rule, got, want, fix."""

    def __init__(self, rule: str, *, got: object, want: object, fix: str) -> None:
        super().__init__(f"{rule}\n  got:  {got}\n  want: {want}\n  fix:  {fix}")
