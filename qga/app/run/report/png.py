"""A matrix as a coloured PNG image inside a data address, with the standard library alone."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

# Anchors of a dark-to-light map of even perceptual steps (viridis), red, green, blue at equal distances.
_ANCHORS = np.array(
    [
        (68, 1, 84),
        (72, 40, 120),
        (62, 74, 137),
        (49, 104, 142),
        (38, 130, 142),
        (31, 158, 137),
        (53, 183, 121),
        (109, 205, 89),
        (180, 222, 44),
        (253, 231, 37),
    ],
    float,
)


def heat_map(matrix: np.ndarray) -> str:
    """Draw values between 0 and 1 as an image, one pixel each; the result goes into the src of an img.

    Args:
        matrix: float[rows, columns]; values outside [0, 1] take the nearest end.
    """
    positions = np.clip(matrix, 0, 1) * (len(_ANCHORS) - 1)
    channels = [np.interp(positions, np.arange(len(_ANCHORS)), _ANCHORS[:, channel]) for channel in range(3)]
    pixels = np.stack(channels, axis=-1).round().astype(np.uint8)
    return "data:image/png;base64," + base64.b64encode(_encode(pixels)).decode()


def _encode(pixels: np.ndarray) -> bytes:
    """Write uint8[rows, columns, 3] as a PNG file (ISO/IEC 15948)."""
    rows, columns, _ = pixels.shape
    header = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    # Each row starts with the number of its filter; 0 is none.
    lines = b"".join(b"\0" + row.tobytes() for row in pixels)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
