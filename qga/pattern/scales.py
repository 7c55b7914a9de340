"""Scales of a signal: Haar coefficients, the dominant wavelength, and where a template fits."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import ShapeError, describe, refuse

Signal = Float[Array, " rows *rest"]


def haar(signal: Signal) -> Signal:
    """Compute the orthonormal Haar coefficients of a signal, coarsest first.

    mean part, then for each halving (left - right) / sqrt(2) of normalised block sums

    An isometry: squared lengths agree (Parseval). The coefficients of level k are those of the piece gr_k of
    ``qga.motivic.weights``.

    Args:
        signal: a power of two of rows.

    Returns:
        As many numbers: entry 0 the scaled mean, entries 2^(k-1) to 2^k - 1 the differences at level k.

    Raises:
        ShapeError: the number of rows is not a power of two.

    Error: eps log2(rows).
    Source: Haar 1910.

    Example:
        >>> jnp.square(haar(jnp.array([3.0, 1.0]))).round(3).tolist()
        [8.0, 2.0]
    """
    _check("haar", signal)
    details = []
    while signal.shape[0] > 1:
        left, right = signal[0::2], signal[1::2]
        details.append((left - right) * 0.5**0.5)
        signal = (left + right) * 0.5**0.5
    return jnp.concatenate([signal, *reversed(details)])


def inverse_haar(coefficients: Signal) -> Signal:
    """Rebuild a signal from its Haar coefficients.

    Raises:
        ShapeError: the number of rows is not a power of two.
    """
    _check("inverse_haar", coefficients)
    signal, rows = coefficients[:1], 1
    while rows < coefficients.shape[0]:
        detail = coefficients[rows : 2 * rows]
        pairs = jnp.stack([signal + detail, signal - detail], axis=1) * 0.5**0.5
        signal, rows = pairs.reshape(2 * rows, *coefficients.shape[1:]), 2 * rows
    return signal


def wavelength(signal: Float[Array, " rows"], *, refine: bool = False) -> Float[Array, ""]:
    """Find the dominant wavelength of a signal: rows over the wave number of the highest peak of its periodogram.

    Args:
        signal: real; its mean is removed first.
        refine: whether to look between wave numbers: k + d, with
            tan(pi d / rows) = tan(pi / rows) Re (X_(k-1) - X_(k+1)) / (2 X_k - X_(k-1) - X_(k+1)).

    Returns:
        In rows; exact where the length is a whole number of waves. NaN for a constant signal, which has none.

    Raises:
        ShapeError: there are fewer than two rows.

    Needs a Fourier transform, which the CPU has.

    Error: half a wave number: between rows / (k + 1/2) and rows / (k - 1/2). Refined, one wave e^(i x) is exact; a real
        one, which is two, has an error of about 1 / (4 k) wave numbers, for k from 2 to rows / 2 - 2.
    Source: Schuster 1898; Jacobsen and Kootsookos 2007, Candan 2013 for the refinement.

    Example:
        >>> place = jnp.arange(100.0)
        >>> wave = jnp.cos(2 * jnp.pi * place / 7)
        >>> round(float(wavelength(wave)), 2), round(float(wavelength(wave, refine=True)), 2)
        (7.14, 7.0)
    """
    if signal.ndim != 1 or signal.shape[0] < 2:
        refuse(
            ShapeError,
            "wavelength: a signal has at least two rows.",
            got=describe(signal),
            want="[rows], rows >= 2",
            fix="map over columns with jax.vmap.",
        )
    rows = signal.shape[0]
    spectrum = jnp.fft.fft(signal - jnp.mean(signal))
    power = jnp.square(jnp.abs(spectrum))[1 : rows // 2 + 1]
    peak = jnp.argmax(power)
    floor = jnp.finfo(signal.dtype).eps ** 2 * jnp.sum(jnp.square(signal)) * rows
    waves = (peak + 1).astype(signal.dtype)
    if refine:
        below, top, above = spectrum[peak], spectrum[peak + 1], spectrum[(peak + 2) % rows]
        bend = 2 * top - below - above
        ratio = jnp.real((below - above) / jnp.where(bend == 0, 1, bend))
        waves += jnp.clip(rows / jnp.pi * jnp.arctan(jnp.tan(jnp.pi / rows) * ratio), -0.5, 0.5)
    return jnp.where(power[peak] > floor, rows / waves, jnp.nan)


def match(signal: Float[Array, " rows"], template: Float[Array, " width"]) -> Float[Array, " places"]:
    """Correlate a template with every window of a signal: the cosine of the two after their means are removed.

    Args:
        signal: at least as long as the template.
        template: at least two numbers, not all equal.

    Returns:
        One number from -1 to 1 for each first row of a window; 1 where the signal is the template up to scale and
        offset. Zero where a window is constant; NaN for a constant template.

    Raises:
        ShapeError: the template does not fit.

    Source: Lewis 1995.
    """
    width = template.shape[0] if template.ndim == 1 else 0
    if signal.ndim != 1 or not 2 <= width <= signal.shape[0]:
        refuse(
            ShapeError,
            "match: a template of two or more numbers fits into the signal.",
            got=f"signal {describe(signal)}, template {describe(template)}",
            want="[rows] and [width], 2 <= width <= rows",
            fix="shorten the template.",
        )
    windows = signal[jnp.arange(signal.shape[0] - width + 1)[:, None] + jnp.arange(width)[None]]
    centred = windows - jnp.mean(windows, axis=1, keepdims=True)
    shape = template - jnp.mean(template)
    # Each side by its own length, so that no product of two small ones is lost. A constant template has none.
    largest = jnp.max(jnp.abs(centred), axis=1, keepdims=True)
    varies = largest[:, 0] > 0
    scaled = centred / jnp.where(largest > 0, largest, 1)
    lengths = jnp.sqrt(jnp.where(varies, jnp.sum(jnp.square(scaled), axis=1), 1))
    shape = shape / jnp.max(jnp.abs(shape))
    unit = shape / jnp.sqrt(jnp.sum(jnp.square(shape)))
    return jnp.where(varies, scaled @ unit / lengths, 0 * unit[0])


def _check(name: str, signal: Array) -> None:
    rows = signal.shape[0] if signal.ndim else 0
    if rows < 1 or rows & (rows - 1):
        refuse(
            ShapeError,
            f"{name}: the number of rows must be a power of two.",
            got=describe(signal),
            want="1, 2, 4, 8, ... rows",
            fix="pad the signal, or cut it into tiles of a power of two with qga.tiling.split.",
        )
