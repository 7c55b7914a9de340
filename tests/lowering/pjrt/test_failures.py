"""Exceptions become status codes; our own keep their text, others say where they came from."""

from __future__ import annotations

import pytest

from lowering.errors import DeviceError, DeviceMemoryError, GraphError, InputError, UnsupportedError, message
from lowering.pjrt.codes import ErrorCode
from lowering.pjrt.failures import describe

FOUR_LINES = message("rule.", got="this", want="that", fix="do so.")


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (UnsupportedError, ErrorCode.UNIMPLEMENTED),
        (InputError, ErrorCode.INVALID_ARGUMENT),
        (DeviceMemoryError, ErrorCode.RESOURCE_EXHAUSTED),
        (DeviceError, ErrorCode.INTERNAL),
        (GraphError, ErrorCode.INTERNAL),
    ],
)
def test_own_errors_keep_their_text(kind: type[Exception], code: ErrorCode) -> None:
    assert describe(kind(FOUR_LINES)) == (code, FOUR_LINES.encode())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), ErrorCode.RESOURCE_EXHAUSTED),
        (KeyboardInterrupt(), ErrorCode.CANCELLED),
        (ValueError("bad"), ErrorCode.INTERNAL),
    ],
)
def test_other_errors_have_codes(error: BaseException, code: ErrorCode) -> None:
    assert describe(error)[0] == code


def test_unexpected_error_says_what_and_where() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        _ = 1 / 0
    lines = describe(caught.value)[1].decode().splitlines()
    assert lines[0] == "platform vulkan: an exception that nobody expected ended this call."
    assert lines[1] == "  got:  ZeroDivisionError: division by zero"
    assert "Traceback" not in "".join(lines)
    assert lines[4].startswith(f"  at: {__file__}:")
