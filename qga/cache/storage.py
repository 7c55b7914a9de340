"""In which numbers rows are kept, and how rows become those numbers and back."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import OptionError, refuse
from ..tiling.state import accumulator_dtype

FLOATS = tuple(jnp.dtype(each) for each in (jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64))
# Half of the largest step between neighbouring numbers, in units of a row's scale: 1/2 of integers; numbers of three
# bits behind the point are 32 apart from 256 to 448.
HALF_STEPS = {jnp.dtype(jnp.int8): 0.5, jnp.dtype(jnp.float8_e4m3fn): 16.0}
SCALE_DTYPE = jnp.dtype(jnp.float32)


def has_scales(dtype: jax.typing.DTypeLike) -> bool:
    """Tell whether rows are kept in so few bits that each has a scale."""
    return jnp.dtype(dtype) in HALF_STEPS


def check_dtype(name: str, dtype: jax.typing.DTypeLike) -> jnp.dtype:
    """Refuse a dtype that no cache has."""
    kept = (*FLOATS, *HALF_STEPS)
    if jnp.dtype(dtype) not in kept:
        refuse(
            OptionError, f"{name}: keys and values are kept in a dtype that attention reads.", got=f"dtype={dtype!r}",
            want=f"one of {', '.join(each.name for each in kept)}", fix="take the dtype of the model, or int8.",
        )  # fmt: skip
    return jnp.dtype(dtype)


def largest_of(dtype: jnp.dtype) -> float:
    """Return the largest number that rows are kept as; integers have it with both signs."""
    return float(jnp.iinfo(dtype).max if jnp.issubdtype(dtype, jnp.integer) else jnp.finfo(dtype).max)


def quantise(
    rows: Float[Array, "*batch width"], dtype: jnp.dtype
) -> tuple[Float[Array, "*batch width"], Float[Array, "*batch"]]:
    """Write each row as numbers of few bits times a scale: x = scale n, the largest |n| being the dtype's largest.

    Args:
        rows: finite numbers; NaN makes the scale NaN.
        dtype: int8 or float8_e4m3fn.

    Returns:
        The numbers and the scales, in float32.

    Error: ``error_of`` of the scale, for each element.
    """
    wide = rows.astype(accumulator_dtype(rows))
    largest = largest_of(dtype)
    # Rows of zeros have the least scale that is one.
    scales = jnp.maximum(jnp.max(jnp.abs(wide), axis=-1, initial=0) / largest, float(jnp.finfo(SCALE_DTYPE).tiny))
    scales = scales.astype(SCALE_DTYPE)
    numbers = jnp.clip(wide / scales.astype(wide.dtype)[..., None], -largest, largest)
    return (jnp.round(numbers) if jnp.issubdtype(dtype, jnp.integer) else numbers).astype(dtype), scales


def error_of(scales: Float[Array, "*batch"], dtype: jnp.dtype) -> Float[Array, "*batch"]:
    """Bound |x - scale n| for each element of a row: half of the largest step, and two roundings of the quotient.

    Numbers too small to be normal may be zero to a device.
    """
    rounding = 2 * largest_of(dtype) * float(jnp.finfo(SCALE_DTYPE).eps)
    return scales * (HALF_STEPS[dtype] + rounding) + float(jnp.finfo(SCALE_DTYPE).tiny)
