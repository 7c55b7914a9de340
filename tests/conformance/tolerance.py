"""How far two runs of one primitive may differ: allowed = c * eps(dtype) * sqrt(depth) * scale.

`c` is the number of roundings that the two implementations may differ by, from the primitive's row below. `depth` is
the longest chain of additions or multiplications into one result. `scale` is the magnitude of the result itself where
nothing is accumulated, and the largest magnitude in results and inputs where terms may cancel. Nothing is averaged,
nothing grows with the array's size. Integers, booleans and everything that only moves data are exact; NaN and
infinities are in the same places.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import ml_dtypes
import numpy as np

# One correctly rounded operation: Vulkan and the CPU agree but for the rounding of a fused multiply-add.
ARITHMETIC = 2
# A complex product errs by up to 2 sqrt(2), a quotient by 4 sqrt(2) units of half an eps of its modulus (Higham,
# Accuracy and Stability, lemma 3.5); both sides err. A power by squaring is three products.
COMPLEX_PRODUCT = 3
COMPLEX_QUOTIENT = 6
# Two good implementations of exp, sin, ... each a few units in the last place from the truth.
ELEMENTARY = 8
# Series and continued fractions in the working precision: both sides amplify their roundings.
SPECIAL = 512

ARITHMETIC_PRIMITIVES = frozenset(
    "add add_any sub mul div rem neg sqrt rsqrt abs sign square reduce_sum reduce_prod cumsum cumprod dot_general "
    "scatter_add scatter_mul reduce reduce_window_add reduce_window_mul conv_general_dilated integer_pow".split()
)
SPECIAL_PRIMITIVES = frozenset(
    "igamma igammac lgamma digamma polygamma zeta bessel_i0e bessel_i1e erf_inv regularized_incomplete_beta "
    "random_gamma custom_linear_solve tridiagonal_solve triangular_solve cholesky lu qr svd eigh eig schur".split()
)
ROWS: dict[str, int] = {
    **dict.fromkeys(ARITHMETIC_PRIMITIVES, ARITHMETIC),
    **dict.fromkeys(SPECIAL_PRIMITIVES, SPECIAL),
}
# Where complex operands need more than the row above. Moduli, directions and roots are several operations, as
# elementary functions are; sums are one for each part.
COMPLEX_ROWS: dict[str, int] = dict.fromkeys(
    "mul square reduce_prod cumprod dot_general scatter_mul reduce reduce_window_mul conv_general_dilated".split(),
    COMPLEX_PRODUCT,
) | {
    "div": COMPLEX_QUOTIENT,
    "integer_pow": 3 * COMPLEX_PRODUCT,
    **dict.fromkeys(["abs", "rsqrt", "sign", "sqrt"], ELEMENTARY),
}
# Their results cross zero away from a zero of their argument, so the error scales with one, not with the result.
AROUND_ONE = frozenset("sin cos tan lgamma digamma erf_inv log logistic cumlogsumexp".split())
EXACT_PRIMITIVES = frozenset(
    "argmax argmin bitcast_convert_type broadcast_in_dim clamp complex concatenate conj copy cummax cummin device_put "
    "dynamic_slice dynamic_update_slice gather imag iota max min pad real reduce_max reduce_min reduce_precision "
    "reduce_window_max reduce_window_min reshape rev round floor ceil scatter scatter_max scatter_min select_n slice "
    "sort squeeze stop_gradient top_k transpose nextafter random_uniform random_randint rng_bit_generator "
    "iota_2x32_shape".split()
)


@dataclass(frozen=True, slots=True)
class Bound:
    """The tolerance of one case."""

    roundings: float
    depth: int = 1
    floor: float = 0.0
    input_scale: float = 0.0


def bound_for(primitive: str, depth: int, inputs: list[np.ndarray]) -> Bound:
    """Look up a primitive's row; `depth` and `inputs` describe the case at hand."""
    if primitive in EXACT_PRIMITIVES:
        return Bound(0)
    roundings: float = ROWS.get(primitive, ELEMENTARY)
    if any(array.dtype.kind == "c" for array in inputs):
        roundings = COMPLEX_ROWS.get(primitive, roundings)
        if primitive == "pow":
            roundings += COMPLEX_PRODUCT * _largest_exponent(*inputs)
    floor = 1.0 if primitive in AROUND_ONE or primitive in SPECIAL_PRIMITIVES else 0.0
    scale = input_scale(primitive, inputs) if depth > 1 else 0.0
    return Bound(roundings, depth, floor, scale)


def _largest_exponent(base: np.ndarray, power: np.ndarray) -> float:
    """Return the largest |y log x|: x^y = exp(y log x), and an error of the product turns the result by as much."""
    with np.errstate(all="ignore"):
        product = np.abs(power.astype(np.complex128) * np.log(base.astype(np.complex128)))
    return _largest(product) if product.size else 0.0


def input_scale(primitive: str, inputs: list[np.ndarray]) -> float:
    """Return the largest term that the inputs can contribute to a sum: of products where the primitive multiplies."""
    largest = [_largest(array) for array in inputs if np.size(array) and is_inexact(array.dtype)]
    if not largest:
        return 0.0
    return math.prod(largest) if primitive in ("dot_general", "conv_general_dilated") else max(largest)


def is_inexact(dtype: np.dtype) -> bool:
    """Say whether a dtype rounds: floats (the small ones too) and complex numbers."""
    return dtype.kind in "fc" or (dtype.kind == "V" and dtype.names is None)


def difference(got: np.ndarray, want: np.ndarray, bound: Bound) -> str | None:
    """Return None when `got` is within the bound, else a line about the worst element."""
    if got.dtype != want.dtype or got.shape != want.shape:
        return f"got {got.dtype}{list(got.shape)}, want {want.dtype}{list(want.shape)}"
    if not is_inexact(want.dtype):
        wrong = got != want
        return _first(got, want, wrong) if wrong.any() else None
    error, rounding, smallest = _errors(got, want, bound)
    moved = np.isnan(error)
    if moved.any():
        return _first(got, want, moved)
    # Below the smallest normal number a device may flush to zero.
    allowed = bound.roundings * rounding + smallest
    wrong = error > allowed
    if not wrong.any():
        return None
    worst = np.unravel_index(np.argmax(error - allowed), error.shape)
    return (
        f"element {tuple(map(int, worst))}: got {got[worst]}, want {want[worst]}, "
        f"off by {error[worst]:.3g}, allowed {allowed[worst]:.3g}; {int(wrong.sum())} of {wrong.size} differ"
    )


def roundings_used(got: np.ndarray, want: np.ndarray, bound: Bound) -> float:
    """Return the largest difference in the unit that `Bound.roundings` counts; infinite where a NaN moved."""
    if got.dtype != want.dtype or got.shape != want.shape or not is_inexact(want.dtype) or not want.size:
        return 0.0 if np.array_equal(got, want) else math.inf
    error, rounding, smallest = _errors(got, want, bound)
    with np.errstate(all="ignore"):
        used = np.where(error <= smallest, 0.0, (error - smallest) / rounding)
    return math.inf if np.isnan(error).any() else float(used.max())


def _errors(got: np.ndarray, want: np.ndarray, bound: Bound) -> tuple[np.ndarray, np.ndarray, float]:
    """Return each element's error (NaN where a special value moved), what one rounding may add, the smallest normal."""
    eps, smallest = _precision(want.dtype)
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    high, low = got.astype(wide), want.astype(wide)
    special = ~(np.isfinite(high) & np.isfinite(low))
    with np.errstate(all="ignore"):
        error = np.where(special, np.where(_same_special(high, low), 0.0, math.nan), np.abs(high - low))
        magnitude = np.where(special, 0.0, np.abs(low))
    scale = np.maximum(magnitude, bound.floor)
    if bound.depth > 1 and magnitude.size:
        scale = np.full_like(scale, max(float(magnitude.max()), bound.input_scale, bound.floor))
    return error, eps * math.sqrt(bound.depth) * scale, smallest


def _precision(dtype: np.dtype) -> tuple[float, float]:
    info = ml_dtypes.finfo(np.dtype(f"f{dtype.itemsize // 2}") if dtype.kind == "c" else dtype)
    return float(info.eps), float(info.smallest_normal)


def _same_special(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    if got.dtype.kind == "c":
        return _same_special(np.real(got), np.real(want)) & _same_special(np.imag(got), np.imag(want))
    finite = np.isfinite(got) & np.isfinite(want)
    return finite | (np.isnan(got) & np.isnan(want)) | (got == want)


def _largest(array: np.ndarray) -> float:
    magnitude = np.abs(array.astype(np.complex128 if array.dtype.kind == "c" else np.float64))
    finite = magnitude[np.isfinite(magnitude)]
    return float(finite.max()) if finite.size else 0.0


def _first(got: np.ndarray, want: np.ndarray, wrong: np.ndarray) -> str:
    where = np.unravel_index(np.argmax(wrong), wrong.shape)
    index = tuple(map(int, where))
    return f"element {index}: got {got[where]}, want {want[where]}; {int(wrong.sum())} of {wrong.size} differ"
