"""Certificates in words: what was left out, what it cost, and plainly so where there was nothing to skip."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga import adaptive_attention
from qga.tiling import Audit, Budget, Certificate, Certified, Fixed, report_certificate
from tests.qga.adaptive.test_adaptive import SLOPES, draw


def certify(resolution: Any, rows: int = 256, **options: Any) -> Certificate:
    arrays = draw(rows, 256)
    return jax.jit(lambda *rows: adaptive_attention(*rows, resolution=resolution, **options)[1])(*arrays)


def report(resolution: Any, **options: Any) -> str:
    return report_certificate(certify(resolution, **options))


def test_nothing_to_skip_is_said() -> None:
    text = report(Certified(1e-3))
    assert "tiles: exact 100 %" in text
    assert text.endswith("\nnothing to skip")


def test_what_looking_cost_is_said() -> None:
    certificate = certify(Fixed())
    looked = certificate._replace(
        tiles_extra=certificate.tiles_extra + 2, flops=1.5 * certificate.flops, bytes_read=1.25 * certificate.bytes_read
    )
    text = report_certificate(looked)
    assert "tiles: exact 100 %; scored besides 50 %\n" in text
    assert "operations: 1.5 of exact attention's\nbytes of keys and values: 1.25 of exact attention's\n" in text
    assert "scored besides" not in report_certificate(certificate)


def test_hidden_tiles_are_nothing_to_skip() -> None:
    text = report(Fixed(), is_causal=True)
    assert text.endswith("nothing to skip")
    assert "tiles: exact 100 %; hidden 37.5 % of all\noperations: 1 of exact attention's" in text


def test_what_was_left_out_is_said() -> None:
    text = report(Budget(tiles=1), alibi=SLOPES)
    assert "nothing to skip" not in text
    assert "tiles: left out " in text
    assert text.startswith("512 queries: sound\nerror at most ")


@pytest.mark.parametrize("eps", [1e-2, 1e-7])
def test_a_promise_below_rounding_is_said(eps: float) -> None:
    text = report(Certified(eps), alibi=SLOPES)
    assert ("the promise is below what rounding allows for 100.0%" in text) == (eps < 1e-6)
    assert ("512 queries: sound" in text) == (eps > 1e-6)


def test_an_audit_is_said() -> None:
    options = {"alibi": np.float32([2, 0]), "audit_key": jax.random.key(0)}
    text = report(Budget(tiles=2), audit=Audit(rows=50, tolerance=0.01, share=0.1), **options)
    assert "audit of 50 queries of each head: " in text
    assert "with confidence 0.99, at most 8.8 % of the queries of a head are" in text
    assert text.endswith("heads computed again, exactly: 1 of 2")


def test_certificates_without_counts_are_reported() -> None:
    from qga import structured_attention

    points = jnp.asarray(np.random.default_rng(0).random((1, 300, 1, 2)), jnp.float32)
    _, certificate = jax.jit(lambda x: structured_attention(x, x, x, scale=4.0, resolution=Certified(1e-2)))(points)
    text = report_certificate(certificate)
    assert "tiles: " in text
    assert "operations" not in text
