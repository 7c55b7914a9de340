"""What the platform leaves out is refused by one error that names all of it, at the user's lines."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback

MATRIX = np.eye(4, dtype=np.float32)
LIKE = jax.ShapeDtypeStruct(MATRIX.shape, MATRIX.dtype)


def printed(x: Any) -> Any:
    jax.debug.print("{}", x)
    return x * 2


def called_back(x: Any) -> Any:
    jax.debug.callback(print, x)
    return x * 2


def narrow(x: Any) -> Any:
    return x.astype(jnp.float8_e4m3fn)


REFUSED: dict[str, Callable[[Any], Any]] = {
    "operation cholesky": jnp.linalg.cholesky,
    "operation convolution": lambda x: jnp.convolve(x[0], x[1]),
    "operation custom_call @Qr": jnp.linalg.qr,
    "operation custom_call @debug_callback": called_back,
    "operation custom_call @debug_print": printed,
    "operation custom_call @eig": jnp.linalg.eig,
    "operation custom_call @eigh": jnp.linalg.eigh,
    "operation custom_call @hessenberg": jax.scipy.linalg.hessenberg,
    "operation custom_call @io_callback": lambda x: io_callback(np.sin, LIKE, x),
    "operation custom_call @pure_callback": lambda x: jax.pure_callback(np.sin, LIKE, x),
    "operation custom_call @schur": jax.scipy.linalg.schur,
    "operation fft": jnp.fft.rfft,
    "operation select_and_scatter": jax.grad(
        lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (2, 2), (2, 2), "VALID").sum()
    ),
    "operation sort": jnp.sort,
    "operation triangular_solve": jnp.linalg.inv,
    "dtype f8E4M3FN": narrow,
}


def refusal(function: Callable[[Any], Any], device: Any) -> str:
    with pytest.raises(jax.errors.JaxRuntimeError, match="everything in the program must have") as caught:
        jax.jit(function)(jax.device_put(MATRIX, device))
    return re.findall(r"^  got:  (.*)$", str(caught.value), re.MULTILINE)[0]


@pytest.mark.parametrize("name", REFUSED)
def test_refusal_names_the_operation_and_the_line(vulkan: Any, name: str) -> None:
    got = refusal(REFUSED[name], vulkan)
    assert re.search(rf"{name} \(\d uses? at test_refusals\.py:\d+", got), got


def test_refusal_names_everything_at_once(vulkan: Any) -> None:
    got = refusal(lambda x: (jnp.sort(printed(x)), jnp.linalg.eigh(x), jnp.fft.fft(x)), vulkan)
    for name in ("sort", "@debug_print", "@eigh", "fft"):
        assert f"{name} (1 use at test_refusals.py" in got


def test_cpu_keeps_what_the_platform_refuses(vulkan: Any) -> None:
    del vulkan
    with jax.default_device(jax.devices("cpu")[0]):
        np.testing.assert_allclose(jnp.linalg.eigvalsh(MATRIX), np.ones(4), rtol=1e-6)
